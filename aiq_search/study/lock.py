"""One driver a study."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from aiq_search.errors import AiqError, StudyError

__all__ = ["StudyLock"]

# How often, and after how many seconds, a lock is asked for before its holder counts as a driver.
_TRIES = 5
_PAUSE = 0.05


class StudyLock:
    """A file lock that any death of its holder frees.

    The file says who holds it; that it exists says nothing.

    Args:
        path: The lock's file.

    Raises:
        StudyError: (on entering) another driver holds it; the message names it.
        AiqError: (on entering) the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> StudyLock:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._unwritable(error) from None
        if not _taken(descriptor):
            said = os.read(descriptor, 1000).decode(errors="replace")
            os.close(descriptor)
            raise StudyError(
                f"study {self._path.parent.name} is being run by another driver ({_describe(said)}); "
                "wait for its end, or stop it there."
            )
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise self._unwritable(error) from None
        self._descriptor = descriptor
        return self

    def _unwritable(self, error: OSError) -> AiqError:
        return AiqError(
            f"{self._path}: the study's lock cannot be written ({error.strerror}): free some space, or give "
            "yourself the right to write there."
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether a driver holds the lock now.

        Only taking a lock of this kind tells, also on a file system that other machines share.
        """
        if not path.exists():
            return False
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def _taken(descriptor: int) -> bool:
    """Take the lock if nobody has it; someone who only looks has it for a moment (``is_held``)."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
            continue
        return True
    return False


def _describe(holder: str) -> str:
    try:
        document = json.loads(holder)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(document["since"]))
        return f"process {document['pid']} on {document['host']} since {since}"
    except (ValueError, KeyError, TypeError):
        return "holder unknown"
