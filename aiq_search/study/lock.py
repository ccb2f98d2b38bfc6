"""One driver for each study: a file lock, and a lock in its database."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aiq_search.errors import AiqError, StudyError, first_line
from aiq_search.polling import poll

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["DatabaseLock", "StudyLock"]

# How long, and after how many seconds again, a lock is asked for before its holder counts as a driver.
_PATIENCE = 0.2
_PAUSE = 0.05


class StudyLock:
    """A file lock, which the death of its holder frees.

    The file names the holder; its existence means nothing.

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
            holder = _describe(os.read(descriptor, 1000).decode(errors="replace"))
            os.close(descriptor)
            raise _held(self._path.parent.name, holder)
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
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

        Only an attempt to take it can answer that, also on a file system that other machines share.
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
    """Take the lock if it is free; a look at it (``is_held``) takes it for a moment."""

    def take() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    return poll(take, every=_PAUSE, at_most=_PATIENCE)


def _describe(holder: str) -> str:
    try:
        document = json.loads(holder)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(document["since"]))
        return f"process {document['pid']} on {document['host']} since {since}"
    except (ValueError, KeyError, TypeError):
        return "holder unknown"


# The holder of a lock that was released between two questions: process of the server, start, name.
_RELEASED = (0, None, "")


class DatabaseLock:
    """An advisory lock of PostgreSQL, held by the connection that writes.

    Every connection that the engine opens while the context lasts takes the lock first, also one that
    silently replaces a broken one. So nothing is written without it, and the death of its holder frees it.

    Args:
        engine: The connections of the study's storage.
        study: The study's id.

    Raises:
        StudyError: (on entering, and later by any use of the storage after a lost connection) another
            driver holds the lock; the message names it.
    """

    def __init__(self, engine: Engine, study: str) -> None:
        self._engine = engine
        self._study = study
        self._key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "big", signed=True)
        self._session: tuple[int, datetime] | None = None

    @staticmethod
    def fits(url: str) -> bool:
        """Whether the database of this URL has such locks."""
        return url.startswith("postgresql")

    def __enter__(self) -> DatabaseLock:
        from sqlalchemy import event  # a study with a journal does not wait for sqlalchemy's import
        from sqlalchemy.exc import InterfaceError, OperationalError

        event.listen(self._engine, "connect", self._take)
        self._engine.dispose()  # a connection from before does not have the lock
        try:
            self._engine.connect().close()
        except (OperationalError, InterfaceError) as error:
            self._release()
            reason = first_line(error.__cause__ or error)
            raise StudyError(f"the study's storage cannot be opened: {reason}") from None
        except StudyError:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        from sqlalchemy import event

        event.remove(self._engine, "connect", self._take)
        self._engine.dispose()

    def _take(self, connection: Any, record: object) -> None:  # noqa: ANN401 - the driver's own
        """Take the lock in a new connection, or close it again."""
        cursor = connection.cursor()
        holder = self._try(cursor)
        if holder is not None and holder[:2] == self._session:
            # Our own earlier connection: the server has not noticed that it is broken.
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", holder[:1])
            holder = self._try(cursor)
        if holder == _RELEASED:
            holder = self._try(cursor)
        if holder is None:
            cursor.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            self._session = cursor.fetchone()
            connection.commit()  # the lock is the session's and stays
            return
        connection.close()
        _, since, name = holder
        raise _held(
            self._study, "holder unknown" if since is None else f"{name} since {since:%Y-%m-%d %H:%M:%S}"
        )

    def _try(self, cursor: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 - the driver's own
        """None where the lock is ours now, else its holder: process of the server, start, name."""
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (self._key,))
        if cursor.fetchone()[0]:
            return None
        cursor.execute(
            "SELECT pid, backend_start, application_name "
            "FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = %s",
            (self._key,),
        )
        return cursor.fetchone() or _RELEASED


def _held(study: str, holder: str) -> StudyError:
    return StudyError(
        f"study {study} is being run by another driver ({holder}); wait until it ends, or stop it there."
    )
