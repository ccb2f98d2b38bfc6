"""The reference, made from the code when the site is built: nothing of it is written by hand.

The code has no place for what an environment variable means: ``ENVIRONMENT`` describes them, and the build
fails where it and the code differ.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import griffe
import typer
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from pydantic import BaseModel
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

# What a user may set, and what is set for processes that aiq starts.
ENVIRONMENT = {
    "AIQ_ALLOW_CODE": "Packages to import code from, besides modules of the current folder; with commas.",
    "AIQ_DATA_DIR": "Folder of the data files; by default `~/.cache/aiq_search`.",
    "AIQ_HOME": "Folder of the studies; by default `.aiq` in the current folder.",
    "AIQ_JOB": "Set by a cluster's job: which submission it belongs to.",
    "AIQ_RUNNER": "`ray` (the default), or `in_process`: one trial after the other, without Ray.",
    "AIQ_STORAGE": "Where checkpoints are kept, for a cluster of several nodes: a path, or `s3://…`.",
    "AIQ_STUDY_STORAGE": "A database for the trials; by default a journal in `AIQ_HOME`.",
    "MLFLOW_TRACKING_PASSWORD": "Password at MLflow's server.",
    "MLFLOW_TRACKING_URI": "MLflow's server or store; by default `mlflow.db` in the current folder.",
    "MLFLOW_TRACKING_USERNAME": "User at MLflow's server.",
    "RAY_ADDRESS": "`aiq search`: a Ray cluster that this machine is a node of; by default one is started.",
    "RAY_API_SERVER_ADDRESS": "`aiq submit` and what follows a job: Ray's dashboard, `http://HOST:8265`.",
    "RAY_AUTH_TOKEN": "Ray's token.",
    "RAY_AUTH_TOKEN_PATH": "A file with Ray's token.",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference."""
    pages = {
        "commands": commands,
        "environment": environment,
        "exit-codes": exit_codes,
        "mlflow": mlflow_names,
        "python": python,
        "shipped": shipped,
        "space": space_file,
    }
    for name, page in pages.items():
        content = page()
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def commands() -> str:
    """Every command, as ``--help`` explains it, by Typer's own page writer."""
    from typer.cli import get_docs_for_click

    from aiq_search.cli.main import app

    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="aiq")
    text = get_docs_for_click(obj=command, ctx=context, name="aiq", title="Commands")
    return re.sub(r"(?<=`)(\[env var: [^`]*?); *", r"\1; ", text)


def space_file() -> str:
    """Every field of a space file: type, default, limits and meaning."""
    from aiq_search.space.parameters import Parameter
    from aiq_search.space.schema import SearchSpace
    from aiq_search.training import AugmentOptions

    parts = [
        "# Space file\n",
        "Every field that a search-space file may have (`schema_version: 1`). "
        "[digits.yaml](../../search_spaces/digits.yaml) shows them in one file; `aiq new` writes one for "
        "your data; `aiq space schema` prints the JSON Schema, for editors.\n",
        _fields("The file", SearchSpace),
    ]
    for name, field in SearchSpace.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append(_fields(f"{name}", field.annotation))
        if name == "parameters":
            kinds = get_args(get_args(Parameter)[0])
            parts += [_fields(f"parameters: {_kind(kind)}", kind) for kind in kinds]
        if name == "training":
            parts.append(_fields("training.augment", AugmentOptions))
    return "\n".join(parts)


def _kind(parameter: type[BaseModel]) -> str:
    return " or ".join(map(str, get_args(parameter.model_fields["type"].annotation)))


def _fields(title: str, model: type[BaseModel]) -> str:
    """A section with a table of a model's fields."""
    summary = (model.__doc__ or "").strip().partition("\n")[0]
    schema = model.model_json_schema(mode="validation")
    meanings = dict(_meanings(model))
    rows = []
    for name, field in model.model_fields.items():
        meaning = _cell(meanings.get(name) or ("Which kind of parameter it is." if name == "type" else ""))
        rows.append(
            f"| `{name}` | {_type(schema['properties'][name], schema)} | {_default(field)} | {meaning} |"
        )
    head = "| field | values | default | meaning |\n|---|---|---|---|\n"
    return f"## {title}\n\n{summary}\n\n{head}" + "\n".join(rows) + "\n"


def _meanings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The meaning of each field, from the docstrings of a model and its bases."""
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel and each.__doc__:
            text = griffe.Docstring(textwrap.dedent("    " + each.__doc__))
            for section in text.parse("google", warnings=False):
                if section.kind is griffe.DocstringSectionKind.attributes:
                    yield from ((attribute.name, attribute.description) for attribute in section.value)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return f"`{default.name}`" if hasattr(default, "name") else "see below"
    return f"`{json.dumps(default)}`"


_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_NOBODYS = 1_000_000  # bounds that only a slip of the finger meets


def _type(schema: dict[str, Any], whole: dict[str, Any]) -> str:
    """A field's values in words."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
        return "a section" if "properties" in schema else _type(schema, whole)
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [_type(each, whole) for each in schema.get("anyOf") or schema["oneOf"]]
        kinds = [
            "a list of them"
            if kind.removeprefix("list of ") in kinds and kind.startswith("list of ")
            else kind
            for kind in kinds
        ]
        return ", or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    match schema.get("type"):
        case "array":
            item = _type(schema.get("items") or (schema.get("prefixItems") or [{}])[0], whole)
            return f"list of {item}"
        case "object":
            return "a mapping"
        case "null":
            return "`null`"
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in _LIMITS.items()
        if key in schema and abs(schema[key]) < _NOBODYS
    ]
    return " ".join([names.get(schema.get("type", ""), "anything"), ", ".join(limits)]).strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def shipped() -> str:
    """The spaces that come with the package, whole."""
    from aiq_search.space.shipped import shipped_spaces

    parts = [
        "# Shipped spaces\n\n`aiq search NAME` runs one, and `aiq new --copy NAME` copies it to a file.\n"
    ]
    for name, path in shipped_spaces().items():
        parts.append(f"## {name}\n\n```yaml\n{path.read_text(encoding='utf-8')}```\n")
    return "\n".join(parts)


def python() -> str:
    """The public names of the package; mkdocstrings writes their pages from the docstrings."""
    import aiq_search

    parts = ["# Python\n", inspect.getdoc(aiq_search) or "", ""]
    parts += [f"::: aiq_search.{name}\n" for name in aiq_search.__all__]
    return "\n".join(parts)


def exit_codes() -> str:
    """Exit codes, from the exceptions that have them."""
    from aiq_search import errors

    rows = ["| 0 | Done. |"]
    classes = [errors.AiqError, errors.InputError, errors.NothingFeasibleError]
    notes = {errors.AiqError: "A search, a check or a repair failed."}
    for each in classes:
        meaning = notes.get(each) or (each.__doc__ or "").strip().partition("\n")[0]
        rows.append(f"| {each.exit_code} | {_cell(meaning)} |")
    rows += ["| 130, 143 | Interrupted by Ctrl-C, or by SIGTERM; `aiq resume` continues. |"]
    return "# Exit codes\n\n| code | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


def mlflow_names() -> str:
    """Names in MLflow, from the module that gives them."""
    from aiq_search.study.metrics import HEADLINE, ONCE, SIZES
    from aiq_search.tracking import layout
    from aiq_search.training.measures import MEASURES

    def table(head: str, rows: Iterator[str]) -> str:
        return f"| {head} |\n|{'---|' * (head.count('|') + 1)}\n" + "\n".join(rows) + "\n"

    metrics = sorted({*HEADLINE, *SIZES, *MEASURES, "loss", "train_loss"})
    families = ", ".join(f"`{name}…`" for name in ONCE if name.endswith("/"))
    source = Path(layout.__file__).read_text(encoding="utf-8")
    tags: dict[str, list[str]] = {}
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Constant) and re.fullmatch(r"aiq\.[a-z_]+", str(node.value)):
                    tags.setdefault(node.value, []).append((ast.get_docstring(function) or "").split("\n")[0])
    statuses = (f"| {state} | {status} |" for state, status in layout.STATUS.items())
    ends = (
        f"| a search that {'was' if end == 'interrupted' else 'has'} {end} | {status} |"
        for end, status in layout.ENDS.items()
    )
    return "\n".join(
        [
            "# MLflow names\n\n[Read a study in MLflow](../mlflow.md) explains what they mean.\n",
            "## Status of a run\n",
            table("state | MLflow's status", iter([*statuses, *ends])),
            "## Metrics\n",
            table("metric", (f"| `{name}` |" for name in metrics)),
            f"Of a layer: `efficiency/…`. Within the first epoch: `{layout.RUNG}…`. Once: {families}.\n",
            "## Tags\n",
            table(
                "tag | where",
                (
                    f"| `{name}` | {_cell(' '.join(dict.fromkeys(where)))} |"
                    for name, where in sorted(tags.items())
                ),
            ),
        ]
    )


def environment() -> str:
    """Environment variables.

    Raises:
        PluginError: The code reads one that is not described, or no longer one that is.
    """
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "aiq_search").rglob("*.py"))
    ours = {name for name in re.findall(r"\bAIQ_[A-Z_]+\b", code)}
    unknown = sorted(ours - ENVIRONMENT.keys())
    gone = sorted(
        name for name in ENVIRONMENT if name not in code and not name.startswith("MLFLOW_TRACKING_")
    )
    if unknown or gone:
        raise PluginError(f"docs/hooks/reference.py: describe {unknown}, and remove {gone}, in ENVIRONMENT")
    rows = [f"| `{name}` | {_cell(meaning)} |" for name, meaning in ENVIRONMENT.items()]
    return "# Environment\n\n| variable | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"
