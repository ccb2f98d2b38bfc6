"""A study in a database: a storage that waits for it to come back, and a lock that it keeps."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable
from types import FunctionType, TracebackType
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from sqlalchemy.exc import InterfaceError, OperationalError

from aiq_search.errors import StudyError

__all__ = ["DatabaseLock", "PatientStorage"]

# How long a database may take to come back, in seconds.
PATIENCE = 120.0

_log = logging.getLogger("aiq_search.search")

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _patiently(method: _Method) -> _Method:
    """Try a method again while the database is away; calls inside of another are not tried alone."""

    @functools.wraps(method)
    def trying(self: PatientStorage, *args: Any, **named: Any) -> Any:  # noqa: ANN401
        if self.inside:
            return method(self, *args, **named)
        deadline, pause, tried = time.monotonic() + PATIENCE, 0.1, False
        while True:
            self.inside = True
            try:
                return method(self, *args, **named)
            except UpdateFinishedTrialError:
                if not tried:
                    raise
                return True  # the first attempt had arrived; only its answer was lost
            except Exception as error:
                if not _is_away(error) or time.monotonic() > deadline:
                    raise
                if not tried:
                    _log.warning("the study's database does not answer; waiting for it: %s", _line(error))
            finally:
                self.inside = False
            tried = True
            time.sleep(pause)
            pause = min(2 * pause, 5.0)
            self.on_return()

    return trying  # type: ignore[return-value]


def _is_away(error: BaseException) -> bool:
    """Whether an error is of the connection, which another attempt may mend."""
    cause: BaseException | None = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(cause, OperationalError | InterfaceError)


def _line(error: BaseException) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _all_patient(cls: type[PatientStorage]) -> type[PatientStorage]:
    for name, method in vars(RDBStorage).items():
        if isinstance(method, FunctionType) and not name.startswith("__"):
            setattr(cls, name, _patiently(method))
    return cls


@_all_patient
class PatientStorage(RDBStorage):
    """Optuna's database storage, which outlives a restart of the database.

    A transaction that a restart cuts off is tried again. At worst its first attempt had arrived: a told
    trial is then found told, and a trial that was asked for twice leaves an empty one behind, which
    nothing is trained for.

    Attributes:
        on_return: Called before each new attempt; a lock that the restart freed is taken again there.
        inside: Whether a call is on its way.
    """

    inside = False

    def __init__(self, url: str) -> None:
        self.on_return: Callable[[], object] = lambda: None
        super().__init__(url, engine_kwargs={"pool_pre_ping": True})


class DatabaseLock:
    """An advisory lock of PostgreSQL: freed with its connection, by any death of its holder.

    Args:
        url: The database.
        study: The study's id.

    Raises:
        StudyError: (on entering) another driver holds it; the message names it.
    """

    def __init__(self, url: str, study: str) -> None:
        self._study = study
        self._key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "big", signed=True)
        name = f"aiq process {os.getpid()} on {socket.gethostname()}"[:63]
        self._engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, connect_args={"application_name": name}
        )
        self._connection: sqlalchemy.Connection | None = None

    @staticmethod
    def fits(url: str) -> bool:
        """Whether a study's database has such locks."""
        return url.startswith("postgresql")

    def __enter__(self) -> DatabaseLock:
        try:
            self._take()
        except (OperationalError, InterfaceError) as error:
            raise StudyError(f"the study's storage cannot be opened: {_line(error)}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    def renew(self) -> None:
        """Take the lock again if the connection was lost; does nothing while the database is away.

        Raises:
            StudyError: Another driver was faster.
        """
        try:
            if self._connection is not None:
                self._connection.execute(sqlalchemy.text("SELECT 1"))
                return
        except (OperationalError, InterfaceError):
            self._let_go()
        try:
            self._take()
        except (OperationalError, InterfaceError):
            self._let_go()

    def _take(self) -> None:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection = connection
        if connection.scalar(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}):
            return
        holder = connection.execute(
            sqlalchemy.text(
                "SELECT application_name, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid) "
                "WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = :key"
            ),
            {"key": self._key},
        ).first()
        self._let_go()
        said = "holder unknown" if holder is None else f"{holder[0]} since {holder[1]:%Y-%m-%d %H:%M:%S}"
        raise StudyError(
            f"study {self._study} is being run by another driver ({said}); wait for its end, or "
            "stop it there."
        )

    def _let_go(self) -> None:
        if self._connection is not None:
            # A connection that is broken closes as well as it can.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
