"""C99 as text: arrays, loops, and places in arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CText", "array", "comment_name", "float_literal", "place"]

_WIDTH = 100


class CText:
    """Lines of C, indented by the blocks that they are in."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def add(self, *lines: str) -> None:
        """Add lines; an empty one stays empty."""
        self._lines += ["    " * self._depth + line if line else "" for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """What is added meanwhile is in braces behind a head."""
        self.add(f"{head} {{")
        self._depth += 1
        yield
        self._depth -= 1
        self.add("}")

    @contextmanager
    def loops(self, *loops: tuple[str, int]) -> Iterator[None]:
        """Nested loops from 0, of a variable and a number each; those of one turn are left out."""
        heads = [f"for (int {name} = 0; {name} < {turns}; {name}++)" for name, turns in loops if turns > 1]
        for head in heads:
            self.add(f"{head} {{")
            self._depth += 1
        yield
        for _ in heads:
            self._depth -= 1
            self.add("}")

    def text(self) -> str:
        """All lines."""
        return "\n".join(self._lines) + "\n"


def place(*parts: tuple[str, int, int]) -> str:
    """A place in an array.

    Args:
        parts: Name of a variable, how far apart its values are, and how many it has: one with a single value
            is 0 and has no loop.

    Example:
        >>> place(("c", 64, 3), ("y", 8, 8), ("x", 1, 8)), place(("c", 64, 1))
        ('c * 64 + y * 8 + x', '0')
    """
    kept = [(f"({name})" if " " in name and step > 1 else name, step) for name, step, n in parts if n > 1]
    terms = [name if step == 1 else f"{name} * {step}" for name, step in kept if name != "0"]
    return " + ".join(terms) or "0"


def float_literal(number: float | np.floating[Any]) -> str:
    """A float32 as the shortest C literal that is read as the same number.

    Example:
        >>> float_literal(0.1), float_literal(3.0), float_literal(1e-30)
        ('0.1f', '3.0f', '1e-30f')
    """
    return f"{np.float32(number)!s}f"


def array(kind: str, name: str, numbers: NDArray[np.generic]) -> Iterator[str]:
    """The lines of a constant array."""
    flat = numbers.ravel()
    texts = [float_literal(each) if flat.dtype == np.float32 else str(each) for each in flat.tolist()]
    yield f"static const {kind} {name}[{len(flat)}] = {{"
    yield from (f"    {line}" for line in _filled(texts))
    yield "};"


def _filled(words: Sequence[str]) -> Iterable[str]:
    line = ""
    for word in words:
        if line and len(line) + len(word) + 2 > _WIDTH:
            yield line
            line = ""
        line += f"{' ' if line else ''}{word},"
    yield line


def comment_name(name: str) -> str:
    """A name that cannot end the comment that it is in."""
    return re.sub(r"[^\w.]", "_", name, flags=re.ASCII)[:80]
