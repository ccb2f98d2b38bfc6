"""Reading a search-space file: YAML, ``--set`` edits, and messages that name the line."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt

from aiq_search.space.errors import SpaceError
from aiq_search.space.parameters import Parameter
from aiq_search.space.schema import SearchSpace
from aiq_search.suggest import did_you_mean

__all__ = ["load_space"]

# A search-space file is a page or two; anything larger is another file given by mistake.
_MAX_BYTES = 1_000_000

_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")}


def load_space(source: Path | Mapping[str, Any] | SearchSpace, overrides: Sequence[str] = ()) -> SearchSpace:
    """Read and validate a search space.

    Args:
        source: A YAML file, a document of the same form, or a space already read.
        overrides: Edits of the form ``dotted.key=value``, the value in YAML.

    Returns:
        The space.

    Raises:
        SpaceError: The file cannot be read or a field is wrong; the message names file, line and key,
            what was expected and the nearest valid name.
    """
    if isinstance(source, Path):
        where, document = str(source), _read_yaml(source)
    elif isinstance(source, SearchSpace):
        where, document = "the search space", source.document()
    else:
        where, document = "the search space", copy.deepcopy(dict(source))  # edits are not the caller's
    for override in overrides:
        _apply(document, override)
    try:
        plain = _plain(document)
    except ValueError as error:
        raise SpaceError(f"{where}: {error}") from None
    try:
        return SearchSpace.model_validate(plain)
    except ValidationError as error:
        problems = [_sentence(where, document, problem) for problem in error.errors()]
        raise SpaceError("\n".join(dict.fromkeys(problems))) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SpaceError(f"{path}: over {_MAX_BYTES:,} bytes; that is no search-space file.")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(p) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = did_you_mean(str(path), siblings) if siblings else "the folder holds no YAML file."
        raise SpaceError(f"{path}: no such file; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path}: cannot be read as text ({error}).") from None
    document = _parse(text, str(path))
    if not isinstance(document, CommentedMap):
        raise SpaceError(f"{path}: expected a mapping with schema_version, name, model and so on.")
    return document


def _parse(text: str, where: str) -> Any:  # noqa: ANN401
    yaml = YAML(typ="rt")  # builds plain data only; keeps the line of each key
    try:
        return yaml.load(io.StringIO(text))
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else "?"
        raise SpaceError(f"{where}:{line}: the key {key!r} stands twice; keep one of them.") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SpaceError(f"{where}{line}: not valid YAML: {error.problem or error.context}.") from None
    except (YAMLError, ValueError, RecursionError, OverflowError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SpaceError(f"{where}: not valid YAML: {reason}.") from None


def _plain(node: Any) -> Any:  # noqa: ANN401
    """The same data in Python's own types, so that nothing remembers how it was written."""
    tag = getattr(getattr(node, "tag", None), "value", None)
    if tag is not None and tag not in _PLAIN_TAGS:
        raise ValueError(f"the tag {tag} is not understood; a search space is plain data.")
    match node:
        case Mapping():
            return {_plain(key): _plain(value) for key, value in node.items()}
        case list() | tuple() | CommentedSeq():
            return [_plain(value) for value in node]
        case ScalarBoolean():
            return bool(node)
        case ScalarInt():
            return int(node)
        case ScalarFloat():
            return float(node)
        case str():
            return str(node)
    return node


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one value; a parameter's own name has a dot in it, so the longest matching key wins."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SpaceError(f"--set {override}: expected dotted.key=value, such as search.trials=20.")
    target: Any = document
    while True:
        if not isinstance(target, dict):
            raise SpaceError(f"--set {override}: {parts[0]!r} lies inside a value that is not a mapping.")
        if target is document.get("parameters") and len(parts) > 2:
            parts[:2] = [".".join(parts[:2])]
        elif target is document.get("parameters"):
            parts = [".".join(parts)]
        if len(parts) == 1:
            target[parts[0]] = _parse(text, f"--set {key}")
            return
        head, *parts = parts
        if isinstance(target.get(head), str) and head in ("sampler", "pruner"):
            target[head] = {"name": target[head]}
        target = target.setdefault(head, {})


def _sentence(where: str, document: Any, problem: Any) -> str:  # noqa: ANN401
    """One of pydantic's findings as a sentence with file, line, key and what to do."""
    location = _location(document, problem["loc"])
    if problem["type"] == "value_error" and not location:
        return _whole_space_sentence(where, document, str(problem["ctx"]["error"]))
    line = _line(document, location)
    place = where if line is None else f"{where}:{line}"
    key = ".".join(str(part) for part in location)
    match problem["type"]:
        case "extra_forbidden":
            message = f"unknown key; {did_you_mean(str(location[-1]), _valid_keys(location, document))}"
        case "missing":
            message = "is required, but missing."
        case "string_pattern_mismatch" if location[0] == "parameters":
            message = "a parameter is called model.<argument> or training.<field>."
        case "value_error":
            message = _stop(str(problem["ctx"]["error"]))
        case "union_tag_not_found":
            message = "is required, but missing: int, float, categorical or derived."
            key += ".type"
        case "union_tag_invalid":
            message = f"expected {problem['ctx']['expected_tags']}, but got {problem['ctx']['tag']!r}."
        case "model_type" | "model_attributes_type" | "dict_type":
            message = f"expected a mapping, but got {problem['input']!r}."
        case _:
            given = "" if isinstance(problem["input"], Mapping) else f", but got {problem['input']!r}"
            message = _stop(f"{problem['msg'][0].lower()}{problem['msg'][1:]}{given}")
    return f"{place}: {key}: {message}" if key else f"{place}: {message}"


def _whole_space_sentence(where: str, document: Any, message: str) -> str:  # noqa: ANN401
    """A finding about how sections fit together: its message begins with the key that it is about."""
    section, _, name = message.partition(": ")[0].partition("[")[0].partition(".")
    line = _line(document, (section, name))
    place = where if line is None else f"{where}:{line}"
    return f"{place}: {_stop(message)}"


def _stop(message: str) -> str:
    return message if message.endswith((".", "?")) else message + "."


def _location(document: Any, loc: tuple[Any, ...]) -> tuple[Any, ...]:  # noqa: ANN401
    """A finding's place in the document: pydantic also names the branch of each union that it tried."""
    kept: list[Any] = []
    node = document
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif part == "[key]" or not last or not isinstance(node, Mapping):
            continue
        elif part in ("int", "float", "categorical", "derived") and loc[0] == "parameters":
            continue
        kept.append(part)
    return tuple(kept)


def _line(document: Any, location: tuple[Any, ...]) -> int | None:  # noqa: ANN401
    """The line, from 1, of a key, or of the nearest mapping around it."""
    line = None
    node = document
    for part in location:
        lines = getattr(getattr(node, "lc", None), "data", None) or {}
        if part in lines:
            line = lines[part][0] + 1
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            break
    return line


def _valid_keys(location: tuple[Any, ...], document: Any) -> list[str]:  # noqa: ANN401
    """The fields that may stand where the unknown key stands."""
    if location[0] == "parameters" and len(location) == 3:
        kind = str(document["parameters"][location[1]].get("type"))
        for parameter in get_args(get_args(Parameter)[0]):
            if kind in get_args(parameter.model_fields["type"].annotation):
                return list(parameter.model_fields)
    fields = SearchSpace.model_fields
    if len(location) > 1:
        section = fields[location[0]].annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            return list(section.model_fields)
    return list(fields)
