"""A search space as it was written: plain values, and the line of each."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from aiq_search.space.errors import Key, SpaceError, shown
from aiq_search.suggest import did_you_mean

__all__ = ["Source", "read_file", "read_text", "read_values"]

# A search-space file is a page or two; the YAML parser takes two seconds for so many bytes.
_MAX_BYTES = 100_000
_MAX_DEPTH = 20

_TAG = "tag:yaml.org,2002:"
_WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")


@dataclass(frozen=True)
class Source:
    """Where the values of a search space come from; no two sources make two spaces differ.

    Attributes:
        name: The file.
        places: File and line of each key, or the ``--set`` that set it.
    """

    name: str | None = field(default=None, compare=False)
    places: Mapping[Key, str] = field(default_factory=dict, compare=False)

    def place(self, key: Key) -> str | None:
        """The place of a value, or of the nearest mapping around it."""
        return next(
            (self.places[k] for n in range(len(key), 0, -1) if (k := key[:n]) in self.places), self.name
        )

    def error(self, key: Key, message: str) -> SpaceError:
        """What is wrong with a value, and where it is."""
        return SpaceError(message, key, self.place(key))


def read_file(path: Path, places: MutableMapping[Key, str]) -> dict[str, Any]:
    """Read a YAML file of plain data.

    Args:
        path: The file.
        places: Receives the place of each key.

    Raises:
        SpaceError: It cannot be read, is too large, or is not plain data.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        siblings = [str(p) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = did_you_mean(str(path), siblings) if siblings else "the folder has no YAML file."
        raise SpaceError(f"{path}: no such file; {hint}") from None
    except UnicodeDecodeError as error:
        if len(content) <= _MAX_BYTES:
            line = content.count(b"\n", 0, error.start) + 1
            raise SpaceError(f"{path}:{line}: not text in UTF-8: byte {content[error.start]:#04x}") from None
    except (OSError, ValueError) as error:  # the latter of a path with a null byte
        raise SpaceError(f"{path}: cannot be read ({error})") from None
    if len(content) > _MAX_BYTES:
        raise SpaceError(f"{path}: over {_MAX_BYTES:,} bytes, which is too large for a search-space file")
    document = read_text(text, str(path), places)
    if not isinstance(document, dict):
        raise SpaceError(f"{path}: expected a mapping with schema_version, name, model and so on")
    return document


def read_text(
    text: str, name: str, places: MutableMapping[Key, str], key: Key = (), *, lines: bool = True
) -> Any:  # noqa: ANN401
    """Read YAML text of plain data.

    Args:
        text: The text.
        name: Where it is from, such as the file.
        places: Receives the place of each key.
        key: The way to the text's value.
        lines: Whether a place is ``name`` with the line.

    Raises:
        SpaceError: It is not plain data.
    """

    def place(line: int) -> str:
        return f"{name}:{line + 1}" if lines else name

    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is refused below
            node = yaml.compose(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = place(mark.line) if mark else name
        raise SpaceError(f"not valid YAML: {error.problem or error.context}", key, where) from None
    except ReaderError as error:
        where = place(text.count("\n", 0, error.position))
        raise SpaceError(f"not valid YAML: character {shown(error.character)}", key, where) from None
    except RecursionError:
        raise SpaceError("nested too deeply", key, name) from None
    except (YAMLError, ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SpaceError(f"not valid YAML: {reason}", key, name) from None
    return None if node is None else _Reader(places, place).read(node, key)


class _Reader:
    """Turns YAML's nodes into plain values; whatever is not plain data is refused with its line."""

    def __init__(self, places: MutableMapping[Key, str], place: Any) -> None:  # noqa: ANN401
        self._places = places
        self._place = place

    def read(self, node: Node, key: Key) -> Any:  # noqa: ANN401
        if len(key) > _MAX_DEPTH:
            raise self._error(node, key[:3], f"nested more than {_MAX_DEPTH} levels deep")
        if node.anchor is not None:
            raise self._error(
                node,
                key,
                f"anchors and aliases ({shown(node.anchor, quoted=False)}) are not supported; "
                "write the value out",
            )
        tag = str(node.tag).removeprefix(_TAG)
        match node:
            case MappingNode() if tag == "map":
                return dict(self._items(node, key))
            case SequenceNode() if tag == "seq":
                return [self._item(value, (*key, index)) for index, value in enumerate(node.value)]
            case ScalarNode():
                return self._scalar(node, tag, key)
        raise self._unsupported(node, key)

    def _items(self, node: MappingNode, key: Key) -> Iterator[tuple[str, Any]]:
        seen = set()
        for name_node, value_node in node.value:
            name = self.read(name_node, key)
            if not isinstance(name, str):
                raise self._error(name_node, key, f"a key must be text, but one is {shown(name)}")
            if name in seen:
                raise self._error(name_node, key, f"duplicate key {shown(name)}; keep one")
            seen.add(name)
            self._places[*key, name] = self._place(name_node.start_mark.line)
            yield name, self.read(value_node, (*key, name))

    def _item(self, node: Node, key: Key) -> Any:  # noqa: ANN401
        self._places[key] = self._place(node.start_mark.line)
        return self.read(node, key)

    def _scalar(self, node: ScalarNode, tag: str, key: Key) -> bool | int | float | str | None:
        text = node.value
        match tag:
            case "str" | "timestamp":
                return str(text)
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return bool(text.lower() == "true")
            case "int" | "float":
                try:
                    return _number(text)
                except ValueError as error:
                    raise self._error(node, key, str(error)) from None
        if tag in ("bool", "int", "float"):
            raise self._error(node, key, f"{shown(text)} is not of the type {tag}")
        raise self._unsupported(node, key)

    def _unsupported(self, node: Node, key: Key) -> SpaceError:
        return self._error(node, key, f"the tag {shown(str(node.tag), quoted=False)} is not supported")

    def _error(self, node: Node, key: Key, message: str) -> SpaceError:
        return SpaceError(message, key, self._place(node.start_mark.line))


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**63


def _number(text: str) -> int | float:
    """A number as YAML writes it.

    Raises:
        ValueError: It is not decimal, or does not fit 64 bits.
    """
    if _WHOLE_NUMBER.fullmatch(text):
        if len(text) > 40 or not _fits(int(text)):
            raise ValueError(f"{shown(text, quoted=False)} does not fit 64 bits")
        return int(text)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if re.fullmatch(r"[-+]?0[0-9xXoObB_].*", text) and "." not in text:
        raise ValueError(
            f"write {shown(text)} as a decimal number without leading zeros, or as text in quotes"
        )
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, but got {shown(text, quoted=False)}")
    return number


def read_values(value: Any, name: str, key: Key = ()) -> Any:  # noqa: ANN401
    """A copy of a document in memory, which is held to the same rules as a file.

    Args:
        value: Mappings, sequences and scalars.
        name: What to call the document.
        key: The way to the value.

    Raises:
        SpaceError: It is not plain data.
    """
    if len(key) > _MAX_DEPTH:
        raise SpaceError(f"nested more than {_MAX_DEPTH} levels deep", key[:3], name)
    match value:
        case Mapping():
            for part in value:
                if not isinstance(part, str):
                    raise SpaceError(f"a key must be text, but one is {shown(part)}", key, name)
            return {part: read_values(item, name, (*key, part)) for part, item in value.items()}
        case list() | tuple():
            return [read_values(item, name, (*key, index)) for index, item in enumerate(value)]
        case bool() | None | str():
            return value
        case int() if _fits(value):
            return value
        case float() if math.isfinite(value):
            return value
        case int():
            raise SpaceError("a whole number does not fit 64 bits", key, name)
        case float():
            raise SpaceError(f"expected a finite number, but got {value}", key, name)
    raise SpaceError(f"expected plain data, but got {type(value).__name__}", key, name)
