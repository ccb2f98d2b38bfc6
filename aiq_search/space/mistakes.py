"""What is wrong with a search space, in sentences that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aiq_search.space.errors import Key, SpaceError, shown
from aiq_search.space.source import Source
from aiq_search.suggest import did_you_mean

__all__ = ["mistakes"]

# More mistakes than these are not listed: the file is of another kind.
_MOST_MISTAKES = 20

_TYPES = ("int", "float", "categorical", "derived")  # of a parameter


def mistakes(kind: type[BaseModel], document: Any, source: Source, error: ValidationError) -> str:  # noqa: ANN401
    """What is wrong with a document: a sentence for each key, a line each.

    Args:
        kind: What the document should be.
        document: Plain values, or the arguments that a ``kind`` was to be made of.
        source: Where it is from.
        error: Pydantic's.
    """
    sentences: dict[Key, str] = {}
    for each in error.errors(include_url=False):
        key, message = _mistake(kind, document, each)
        sentences.setdefault(key, message)  # of a union, pydantic reports each member
    inner = {key[:length] for key in sentences for length in range(len(key))}
    sentences = {key: message for key, message in sentences.items() if key not in inner}
    lines = [str(source.error(key, message)) for key, message in sentences.items()]
    if len(lines) > _MOST_MISTAKES:
        lines[_MOST_MISTAKES:] = [f"… and {len(lines) - _MOST_MISTAKES:,} more."]
    return "\n".join(lines)


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


def _mistake(kind: type[BaseModel], document: Any, error: ErrorDetails) -> tuple[Key, str]:  # noqa: ANN401
    """One of pydantic's errors as the key that is wrong, and a sentence."""
    key, wrong, context = _key_of(document, error["loc"]), error["type"], error.get("ctx", {})
    if isinstance(cause := context.get("error"), SpaceError):
        return (*key, *cause.key), cause.message
    if wrong == "string_pattern_mismatch" and key[0] == "parameters":
        return key, _PARAMETER_NAME
    if wrong.startswith("union_tag"):
        key = (*key, "type")
    template = _SENTENCES.get(wrong)
    if template is None:
        given = "" if isinstance(error["input"], Mapping) else f", but got {shown(error['input'])}"
        return key, f"{error['msg'][0].lower()}{error['msg'][1:]}{given}"
    values = {**context, "input": shown(error["input"]), "tag": shown(context.get("tag"))}
    if wrong == "extra_forbidden":
        values["hint"] = did_you_mean(shown(key[-1], quoted=False), _valid_keys(kind, key, document))
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


def _valid_keys(kind: type[BaseModel], key: Key, document: Any) -> list[str]:  # noqa: ANN401
    """The keys that are possible in the mapping of an unknown one."""
    fields = kind.model_fields
    if key[0] == "parameters" and len(key) == 3:
        tag = document["parameters"][key[1]].get("type")
        _, union = get_args(fields["parameters"].annotation)
        for parameter in get_args(get_args(union)[0]):
            if tag in get_args(parameter.model_fields["type"].annotation):
                return list(parameter.model_fields)
    for part in key[:-1]:
        section = fields[str(part)].annotation if part in fields else None
        if isinstance(section, type) and issubclass(section, BaseModel):
            fields = section.model_fields
    return list(fields)
