"""A function that is called while another one works."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["calling_every"]


@contextmanager
def calling_every(seconds: float, function: Callable[[], None]) -> Iterator[None]:
    """Call a function every so often, for as long as the context lasts, and raise there what it raises.

    It is called by a signal, so only in the main thread, and not before a call into C returns. In another
    thread nothing is called.

    Args:
        seconds: From one call to the next.
        function: Takes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def call(number: int, frame: FrameType | None) -> None:
        if calling:
            function()

    calling = True
    handler = signal.signal(signal.SIGALRM, call)
    begun = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        calling = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # the timer was somebody else's
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, left - time.monotonic() + begun), interval)
