"""Ctrl-C and SIGTERM drain a study; Ctrl-C after either quits at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from aiq_search.search.driver import StudyDriver

__all__ = ["draining_on_signals"]


@contextmanager
def draining_on_signals(driver: StudyDriver) -> Iterator[list[int]]:
    """Let SIGINT or SIGTERM drain the study while the context lasts.

    A repeated SIGTERM changes nothing: Ray's jobs and service managers may send it to a whole family of
    processes, and kill what takes too long.

    Yields:
        The signals received so far.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            if number == signal.SIGINT:
                print(f"Quit. Continue with: aiq resume {driver.study.id}", file=sys.stderr, flush=True)
                os._exit(128 + number)  # the study's storage is whole at any moment
            return
        received.append(number)
        driver.draining = True
        print("Stopping after the running epochs; press Ctrl-C again to quit now.", file=sys.stderr)

    if threading.current_thread() is not threading.main_thread():
        yield received  # signals are the main thread's, and its owner's to handle
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
