"""A study in a database: a storage that waits for it to come back, and a lock that it keeps."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from types import FunctionType, TracebackType
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)
from sqlalchemy.orm import Session

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
        if self._inside:
            return method(self, *args, **named)
        deadline, pause = time.monotonic() + self._patience, 0.1
        self._again = False
        while True:
            self._inside = True
            try:
                return method(self, *args, **named)
            except Exception as error:
                if not _is_away(error):
                    raise
                if time.monotonic() > deadline:
                    self._patience = 0.0  # whoever tidies up after this need not wait as long again
                    raise
                with suppress(SQLAlchemyError):
                    self.scoped_session.remove()  # what the lost connection left of a transaction
                if not self._again:
                    _log.warning("the study's database does not answer; waiting for it: %s", _line(error))
            finally:
                self._inside = False
            self._again = True
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    return trying  # type: ignore[return-value]


def _is_away(error: BaseException) -> bool:
    """Whether an error is of the connection, which another attempt may mend."""
    cause: BaseException | None = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    # The last: the connection broke while a transaction was being taken back.
    return isinstance(cause, OperationalError | InterfaceError | PendingRollbackError)


def _line(error: BaseException) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


# These count the trials before the first attempt, and are patient in two steps.
_IN_STEPS = ("create_new_trial", "_create_new_trial")


def _all_patient(cls: type[PatientStorage]) -> type[PatientStorage]:
    for name, method in vars(RDBStorage).items():
        if isinstance(method, FunctionType) and not name.startswith("__") and name not in _IN_STEPS:
            setattr(cls, name, _patiently(getattr(cls, name)))
    return cls


@_all_patient
class PatientStorage(RDBStorage):
    """Optuna's database storage, which outlives a restart of the database.

    A transaction that a restart cuts off is tried again. Its first attempt may have arrived, and only the
    answer been lost; a study has one driver, so what the second attempt then finds is its own, and counts
    as done. Optuna's rows are locked while they are compared, so an attempt that arrives late is waited for.
    """

    _patience = PATIENCE
    _inside = False  # a call is on its way
    _again = False  # it is not the first attempt
    _next = 0  # number of the trial that is being made

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {"pool_pre_ping": True}
        if not DatabaseLock.fits(url):
            super().__init__(url, engine_kwargs=options)
            return
        name = f"aiq process {os.getpid()} on {socket.gethostname()}"[:63]
        options["connect_args"] = {"application_name": name}
        super().__init__(url, engine_kwargs=options)
        # Optuna has looked after its tables, for which it takes two connections. From here on there is one:
        # that which holds the lock is the one that writes.
        self.engine.dispose()
        self.engine = sqlalchemy.create_engine(self.url, **self.engine_kwargs, pool_size=1, max_overflow=0)
        self.scoped_session.remove()
        self.scoped_session.configure(bind=self.engine)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """As Optuna's; a study that an earlier attempt has made is the one that was wanted."""
        try:
            return super().create_new_study(directions, study_name)
        except DuplicatedStudyError:
            if not self._again or study_name is None:
                raise
            return self.get_study_id_from_name(study_name)

    def delete_study(self, study_id: int) -> None:
        """As Optuna's; a study that an earlier attempt has deleted is gone, as it should be."""
        try:
            super().delete_study(study_id)
        except KeyError:
            if not self._again:
                raise

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's, once and only once."""
        return self._create_new_trial(study_id, template_trial)._trial_id

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        self._next = self._count(study_id)
        return self._create_numbered(study_id, template_trial)

    @_patiently
    def _count(self, study_id: int) -> int:
        with self.engine.connect() as connection:
            counted = sqlalchemy.select(sqlalchemy.func.count()).where(models.TrialModel.study_id == study_id)
            return int(connection.scalar(counted) or 0)

    @_patiently
    def _create_numbered(self, study_id: int, template_trial: FrozenTrial | None) -> FrozenTrial:
        return super()._create_new_trial(study_id, template_trial)

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        """The trial that an earlier attempt has made, or a new one; the study's row is locked meanwhile."""
        made = session.query(models.TrialModel).filter_by(study_id=study_id, number=self._next).one_or_none()
        return made or super()._get_prepared_new_trial(study_id, template_trial, session)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's; a trial that an earlier attempt has brought to this state is there."""
        try:
            changed = super().set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            if not (self._again and self.get_trial(trial_id).state is state):
                raise
            return True
        return changed or (self._again and self.get_trial(trial_id).state is state)


_NOBODY = (0, None, "")


class DatabaseLock:
    """An advisory lock of PostgreSQL, held by the connection that writes.

    Every connection that the storage opens while the context lasts takes the lock first, also one that
    replaces a broken one unseen. So nothing is written without it, and any death of its holder frees it.

    Args:
        storage: The study's storage, on PostgreSQL.
        study: The study's id.

    Raises:
        StudyError: (on entering, and later by any use of the storage after a lost connection) another
            driver holds the lock; the message names it.
    """

    def __init__(self, storage: PatientStorage, study: str) -> None:
        self._engine = storage.engine
        self._study = study
        self._key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "big", signed=True)
        self._session: tuple[int, datetime] | None = None

    @staticmethod
    def fits(url: str) -> bool:
        """Whether a study's database has such locks."""
        return url.startswith("postgresql")

    def __enter__(self) -> DatabaseLock:
        event.listen(self._engine, "connect", self._take)
        self._engine.dispose()  # a connection from before does not have the lock
        try:
            self._engine.connect().close()
        except (OperationalError, InterfaceError) as error:
            self._let_go()
            raise StudyError(f"the study's storage cannot be opened: {_line(error)}") from None
        except StudyError:
            self._let_go()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    def _let_go(self) -> None:
        event.remove(self._engine, "connect", self._take)
        self._engine.dispose()

    def _take(self, connection: Any, record: object) -> None:  # noqa: ANN401 - the driver's own
        """Take the lock in a new connection, or close it again."""
        cursor = connection.cursor()
        holder = self._try(cursor)
        if holder is not None and holder[:2] == self._session:
            # Our own connection of before: the server has not noticed that it is broken.
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", holder[:1])
            holder = self._try(cursor)
        if holder == _NOBODY:  # who had it let go of it between our two questions
            holder = self._try(cursor)
        if holder is None:
            cursor.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            self._session = cursor.fetchone()
            connection.commit()  # the lock is the session's and stays
            return
        connection.close()
        _, since, name = holder
        said = "holder unknown" if since is None else f"{name} since {since:%Y-%m-%d %H:%M:%S}"
        raise StudyError(
            f"study {self._study} is being run by another driver ({said}); wait for its end, or "
            "stop it there."
        )

    def _try(self, cursor: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 - the driver's own
        """None where the lock is ours now, else who has it: process of the server, since when, name."""
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (self._key,))
        if cursor.fetchone()[0]:
            return None
        cursor.execute(
            "SELECT pid, backend_start, application_name "
            "FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = %s",
            (self._key,),
        )
        return cursor.fetchone() or _NOBODY
