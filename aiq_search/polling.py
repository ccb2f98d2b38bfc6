"""Waiting for a condition by asking again and again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar, overload

__all__ = ["poll"]

_Answer = TypeVar("_Answer")


@overload
def poll(until: Callable[[], _Answer | None], *, every: float) -> _Answer: ...


@overload
def poll(until: Callable[[], _Answer], *, every: float, at_most: float) -> _Answer: ...


def poll(until: Callable[[], _Answer], *, every: float, at_most: float = math.inf) -> _Answer:
    """Ask until the answer is true, or the time is up.

    Args:
        until: Asked at least once; what it raises is not caught.
        every: Seconds between two attempts.
        at_most: Seconds to keep trying, by default without a limit. The last attempt is made when they have
            passed.

    Returns:
        The last answer: true unless the time was up.

    >>> answers = iter([0, 0, 7])
    >>> poll(lambda: next(answers), every=0.01)
    7
    >>> poll(lambda: "", every=0.01, at_most=0.03)
    ''
    """
    deadline = time.monotonic() + at_most
    while not (answer := until()):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(every, left))
    return answer
