"""Waiting for something to happen elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aiq_search.polling import poll

__all__ = ["wait_for"]

_Answer = TypeVar("_Answer")


def wait_for(
    condition: Callable[[], _Answer], seconds: float = 240.0, *, every: float = 0.1, what: str = ""
) -> _Answer:
    """Wait until a condition is true, and return it.

    Raises:
        TimeoutError: It did not come true.
    """
    answer = poll(condition, every=every, at_most=seconds)
    if not answer:
        raise TimeoutError(f"waited {seconds:.0f} s for {what or condition}")
    return answer
