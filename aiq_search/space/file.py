"""Reading a search-space file: YAML, ``--set`` edits, and messages that name the line."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiq_search.space.errors import Key, SpaceError, shown
from aiq_search.space.schema import SearchSpace
from aiq_search.space.shipped import find_space
from aiq_search.space.source import Source, read_file, read_text, read_values

__all__ = ["Override", "load_space"]

_SET = "--set"


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
    return SearchSpace.read(document, Source(name, places))


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
            if part in ("model", "dataset", "sampler", "pruner") and isinstance(target.get(part), str):
                target[part] = {"name": target[part]}
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise SpaceError("is not a mapping", self.path[:depth], _SET)
        for key in [key for key in places if key[: len(self.path)] == self.path]:
            del places[key]
        places[self.path] = _SET
        target[self.path[-1]] = read_text(self.value, _SET, places, self.path, lines=False)
