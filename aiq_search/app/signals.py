"""Ctrl-C and SIGTERM: the first drains a study, the second ends at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from aiq_search.search.driver import StudyDriver

__all__ = ["draining_on_signals"]


@contextmanager
def draining_on_signals(driver: StudyDriver) -> Iterator[list[int]]:
    """Let the first SIGINT or SIGTERM drain the study while the context lasts.

    Yields:
        The signals received so far.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(128 + number)  # the study's storage is whole at any moment
        received.append(number)
        driver.draining = True
        print("Stopping: running epochs are finished and kept; once more ends at once.", file=sys.stderr)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
