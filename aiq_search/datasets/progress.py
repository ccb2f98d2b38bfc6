"""A bar on a terminal while data are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

__all__ = ["with_progress"]

T = TypeVar("T")


def with_progress(steps: Sequence[T], what: str) -> Iterable[T]:
    """The steps, with a bar on standard error where that is a terminal.

    Args:
        steps: What is done one after the other.
        what: What is being done.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal:
        return steps
    return track(steps, what, console=console, transient=True)
