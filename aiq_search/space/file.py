"""Reading a search-space file: YAML, ``--set`` edits, and messages that name the line."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aiq_search.space.errors import Key, SpaceError, shown
from aiq_search.space.parameters import Parameter
from aiq_search.space.schema import SearchSpace
from aiq_search.space.shipped import find_space
from aiq_search.space.source import Source, read_file, read_text, read_values
from aiq_search.suggest import did_you_mean

__all__ = ["Override", "load_space"]

# More mistakes than these are not listed: the file is of another kind.
_MOST_MISTAKES = 20

_SET = "--set"

_TYPES = ("int", "float", "categorical", "derived")  # of a parameter


def load_space(
    source: str | Path | Mapping[str, Any] | SearchSpace, overrides: Sequence[str] = ()
) -> SearchSpace:
    """Read and validate a search space.

    Args:
        source: A YAML file, the name of a space that comes with this package, a document of the same form,
            or a ``SearchSpace``.
        overrides: Edits of the form ``dotted.key=value``, the value in YAML.

    Returns:
        The space.

    Raises:
        SpaceError: The file cannot be read or a field is wrong; the message names file, line and key,
            what was expected and the nearest valid name.
    """
    places: dict[Key, str] = {}
    if isinstance(source, str | Path):
        path = find_space(source)
        name, document = str(path), read_file(path, places)
    else:
        name = "the search space"
        document = read_values(source.document() if isinstance(source, SearchSpace) else source, name)
    for text in overrides:
        Override.parse(text).apply(document, places)
    try:
        space = SearchSpace.model_validate(document)
    except ValidationError as error:
        raise SpaceError("\n".join(_mistakes(document, Source(name, places), error))) from None
    return space.with_source(Source(name, places))


@dataclass(frozen=True)
class Override:
    """An edit of one value.

    Attributes:
        path: The way to it; the name of a parameter is one part, although it has a dot.
        value: The new value, in YAML.
    """

    path: tuple[str, ...]
    value: str

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read ``dotted.key=value``.

        Raises:
            SpaceError: It has another form.

        Example:
            >>> Override.parse("parameters.model.hidden1.low=4")
            Override(path=('parameters', 'model.hidden1', 'low'), value='4')
        """
        key, equals, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            text = shown(text, quoted=False)
            raise SpaceError(f"--set {text}: expected dotted.key=value, such as search.trials=20")
        if path[0] == "parameters" and len(path) > 2:
            end = 4 if path[1:3] == ("training", "augment") and len(path) > 3 else 3
            path = ("parameters", ".".join(path[1:end]), *path[end:])
        return cls(path, value)

    def apply(self, document: dict[str, Any], places: MutableMapping[Key, str]) -> None:
        """Set the value in a document, and note that ``--set`` did it.

        Raises:
            SpaceError: The path leads into a value that is not a mapping, or the value is not YAML.
        """
        target: Any = document
        for depth, part in enumerate(self.path[:-1], start=1):
            if part in ("sampler", "pruner") and isinstance(target.get(part), str):
                target[part] = {"name": target[part]}
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise SpaceError("is not a mapping", self.path[:depth], _SET)
        for key in [key for key in places if key[: len(self.path)] == self.path]:
            del places[key]
        places[self.path] = _SET
        target[self.path[-1]] = read_text(self.value, _SET, places, self.path, lines=False)


def _mistakes(document: Any, source: Source, error: ValidationError) -> list[str]:  # noqa: ANN401
    """What is wrong with a document: a sentence for each key."""
    sentences: dict[Key, str] = {}
    for each in error.errors(include_url=False):
        key, message = _mistake(document, each)
        sentences.setdefault(key, message)  # of a union, pydantic reports each member
    inner = {key[:length] for key in sentences for length in range(len(key))}
    sentences = {key: message for key, message in sentences.items() if key not in inner}
    lines = [str(source.error(key, message)) for key, message in sentences.items()]
    if len(lines) > _MOST_MISTAKES:
        lines[_MOST_MISTAKES:] = [f"… and {len(lines) - _MOST_MISTAKES:,} more."]
    return lines


# What pydantic's errors are called, and their sentences.
_SENTENCES = {
    "bool_type": "expected true or false, but got {input}",
    "dict_type": "expected a mapping, but got {input}",
    "extra_forbidden": "unknown key; {hint}",
    "int_type": "expected a whole number, but got {input}",
    "missing": "is required, but missing",
    "model_attributes_type": "expected a mapping, but got {input}",
    "model_type": "expected a mapping, but got {input}",
    "string_pattern_mismatch": "expected up to 80 letters, digits, - and _, but got {input}",
    "string_type": "expected text, but got {input}",
    "too_long": "at most {max_length:,} are allowed",
    "too_short": "at least {min_length} item is required",
    "union_tag_invalid": "expected {expected_tags}, but got {tag}",
    "union_tag_not_found": "is required, but missing: int, float, categorical or derived",
    "value_error": "{error}",
}
_PARAMETER_NAME = "the name of a parameter is model.<argument>, training.<field> or training.augment.<field>"


def _mistake(document: Any, error: ErrorDetails) -> tuple[Key, str]:  # noqa: ANN401
    """One of pydantic's errors as the key that is wrong, and a sentence."""
    key, kind, context = _key_of(document, error["loc"]), error["type"], error.get("ctx", {})
    if isinstance(cause := context.get("error"), SpaceError):
        return (*key, *cause.key), cause.message
    if kind == "string_pattern_mismatch" and key[0] == "parameters":
        return key, _PARAMETER_NAME
    if kind.startswith("union_tag"):
        key = (*key, "type")
    template = _SENTENCES.get(kind)
    if template is None:
        given = "" if isinstance(error["input"], Mapping) else f", but got {shown(error['input'])}"
        return key, f"{error['msg'][0].lower()}{error['msg'][1:]}{given}"
    values = {**context, "input": shown(error["input"]), "tag": shown(context.get("tag"))}
    if kind == "extra_forbidden":
        values["hint"] = did_you_mean(shown(key[-1], quoted=False), _valid_keys(key, document))
    return key, template.format_map(values)


def _key_of(document: Any, location: tuple[int | str, ...]) -> Key:  # noqa: ANN401
    """The key that an error is about: pydantic also names the member of each union that it tried."""
    key: list[int | str] = []
    node = document
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif part in ("[key]", *_TYPES) or not last or not isinstance(node, Mapping):
            continue
        key.append(part)
    return tuple(key)


def _valid_keys(key: Key, document: Any) -> list[str]:  # noqa: ANN401
    """The keys that are possible in the mapping of an unknown one."""
    if key[0] == "parameters" and len(key) == 3:
        kind = document["parameters"][key[1]].get("type")
        for parameter in get_args(get_args(Parameter)[0]):
            if kind in get_args(parameter.model_fields["type"].annotation):
                return list(parameter.model_fields)
    fields = SearchSpace.model_fields
    for part in key[:-1]:
        section = fields[str(part)].annotation if part in fields else None
        if isinstance(section, type) and issubclass(section, BaseModel):
            fields = section.model_fields
    return list(fields)
