"""What is wrong with a search-space file."""

from __future__ import annotations

from typing import TypeAlias

from aiq_search.errors import InputError

__all__ = ["Key", "SpaceError", "dotted", "shown"]

# The way to a value in the file: ("search", "trials"), ("enqueue", 0).
Key: TypeAlias = tuple[str | int, ...]

_LONGEST = 100


class SpaceError(InputError, ValueError):  # the latter for pydantic's validators
    """A search-space file that cannot be used as it is.

    Attributes:
        key: The way to the value that is wrong.
        message: What was expected, what was given, and what to do.

    Args:
        message: What was expected, what was given, and what to do.
        key: The way to the value that is wrong; empty if it is the whole file.
        place: The file and the line, where they are known.
    """

    def __init__(self, message: str, key: Key = (), place: str | None = None) -> None:
        self.key = key
        self.message = message if message.endswith((".", "?")) else f"{message}."
        super().__init__(": ".join(filter(None, [place, dotted(key), self.message])))


def dotted(key: Key) -> str:
    """A key as it is written with ``--set``.

    >>> dotted(("search", "trials")), dotted(("enqueue", 0, "model.conv1"))
    ('search.trials', 'enqueue.0.model.conv1')
    """
    return ".".join(shown(part, quoted=False) for part in key)


def shown(value: object, *, quoted: bool = True, longest: int = _LONGEST) -> str:
    """A value from a file, fit for a message: short, and without characters that steer a terminal."""
    text = repr(value) if quoted or not isinstance(value, str) else value
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: longest + 1])
    return text if len(text) <= longest else text[:longest] + "…"
