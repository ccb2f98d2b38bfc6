"""A search space as YAML, as one would write it by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

__all__ = ["yaml_of"]

_WIDTH = 110

# Text that needs no quotes within braces, unless it reads as a number, a date or null: that, ruamel knows.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.:/ <>=*+-]*[A-Za-z0-9_/]|[A-Za-z]")


def yaml_of(document: Mapping[str, Any]) -> str:
    """A document as YAML: a line for each section and each parameter, or several where it is long.

    Args:
        document: Plain data; its keys are the sections.

    >>> print(yaml_of({"name": "tiny", "parameters": {"model.width": {"type": "int", "low": 2, "high": 8}}}))
    name: tiny
    parameters:
      model.width: {type: int, low: 2, high: 8}
    <BLANKLINE>
    """
    written = CommentedMap()
    for name, section in document.items():
        if name == "parameters":
            written[name] = CommentedMap((key, _in_one_line(value)) for key, value in section.items())
        else:
            written[name] = _in_one_line(section)
    yaml = YAML(typ="rt", pure=True)
    yaml.width = _WIDTH
    text = io.StringIO()
    yaml.dump(written, text)
    return text.getvalue()


def _in_one_line(value: Any) -> Any:  # noqa: ANN401
    """A value that ruamel writes with braces and brackets."""
    match value:
        case Mapping():
            mapping = CommentedMap((_in_one_line(key), _in_one_line(item)) for key, item in value.items())
            mapping.fa.set_flow_style()
            return mapping
        case list():
            sequence = CommentedSeq(map(_in_one_line, value))
            sequence.fa.set_flow_style()
            return sequence
        case str() if not _PLAIN.fullmatch(value) or ": " in value:
            return DoubleQuotedScalarString(value)
    return value
