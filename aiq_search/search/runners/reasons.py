"""Reasons why a trial or a study stopped, worded the same by every runner."""

from __future__ import annotations

import errno
import os

from aiq_search.places import Place, StorageError

__all__ = ["death", "death_in", "storage_trouble", "storage_trouble_in", "took_too_long"]

_FULL = (errno.ENOSPC, errno.EDQUOT)

# How Ray begins to say what a dead worker died of.
_EXIT = "Worker exit type"


def took_too_long(minutes: float | None) -> str:
    """Of an epoch that was interrupted because its trial took too long."""
    return f"took longer than search.trial_minutes = {minutes:g}, in an epoch that hung"


def death(error: BaseException) -> str:
    """Of a worker that ended in an error.

    >>> death(ValueError("no"))
    'the worker died: ValueError: no'
    """
    return f"the worker died: {_last_line(f'{type(error).__name__}: {error}')}"


def death_in(page: str) -> str:
    r"""Of a worker that died, from what Ray writes about it.

    >>> death_in("The actor died.\nWorker exit type: SYSTEM_ERROR. Some common causes include: (1) …")
    'the worker died: Worker exit type: SYSTEM_ERROR.'
    """
    if "OutOfMemoryError" in page or "running low on memory" in page:
        return (
            "out of memory: Ray ended the worker before the machine ran out; give the trial a smaller batch "
            "or network, or run fewer at once (search.concurrency)"
        )
    exits = [
        line.strip()[line.strip().index(_EXIT) :].partition(" Some common causes")[0]
        for line in page.splitlines()
        if _EXIT in line
    ]
    return f"the worker died: {exits[-1] if exits else _last_line(page)}"


def storage_trouble(error: BaseException, place: Place) -> str | None:
    """Of a worker that could not write its files, and what to do; None for other errors.

    Args:
        error: What the worker raised.
        place: Where the study keeps its files.
    """
    if not isinstance(error, OSError):
        return None
    if error.errno in _FULL:
        return _full(place)
    return _unusable(_last_line(str(error))) if isinstance(error, StorageError) else None


def storage_trouble_in(page: str, place: Place) -> str | None:
    """The same, from what Ray writes about the worker's error.

    >>> from pathlib import Path
    >>> storage_trouble_in("OSError: [Errno 28] No space left on device", Path("/study"))
    'the disk of /study is full: free some space'
    >>> storage_trouble_in("[Errno 2] No such file", Path("/study"))
    """
    if any(os.strerror(number) in page for number in _FULL):
        return _full(place)
    return _unusable(_last_line(page)) if StorageError.__name__ in page else None


def _full(place: Place) -> str:
    return f"the disk of {place} is full: free some space"


def _unusable(reason: str) -> str:
    return f"the storage cannot be used ({reason}): bring it back"


def _last_line(text: str) -> str:
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["no message"])[-1]
