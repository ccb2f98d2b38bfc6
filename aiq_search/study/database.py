"""The storage of a study in a database, which waits while the database is away."""

# ruff: noqa: D102 - Optuna documents its storages' methods; here are only their differences

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)

from aiq_search.errors import first_line
from aiq_search.study.lock import DatabaseLock
from aiq_search.study.optuna_internals import FrozenStudy, NumberedDatabase, cached

__all__ = ["PatientStorage"]

# How long a database may take to come back, in seconds.
PATIENCE = 120.0

_log = logging.getLogger("aiq_search.search")

_T = TypeVar("_T")
_P = ParamSpec("_P")


class PatientStorage(BaseStorage):
    """Optuna's database storage, which survives a restart of the database.

    Whatever fails because the connection is lost is attempted again, until the database is back. The first
    attempt may have been committed, and only the answer lost. Most of Optuna's transactions may be repeated:
    they set a value. Four may not, and each says what a repetition does. It relies on there being one driver:
    what a repetition finds is its own.

    Args:
        url: SQLAlchemy's URL.
    """

    def __init__(self, url: str) -> None:
        self._patience = PATIENCE
        self._database = _connect(url)
        self._storage = cached(self._database)

    @property
    def engine(self) -> Engine:
        """The connections to the database: on PostgreSQL, one at most."""
        return self._database.engine

    def _patiently(self, attempt: Callable[[bool], _T]) -> _T:
        """Attempt something until it is answered; ``attempt`` learns whether it is a repetition."""
        deadline, pause = time.monotonic() + self._patience, 0.1
        repeated = False
        while True:
            try:
                return attempt(repeated)
            except Exception as error:
                if not _is_away(error):
                    raise
                if time.monotonic() > deadline:
                    self._patience = 0.0  # what is tidied up after this need not wait as long again
                    raise
                with suppress(SQLAlchemyError):
                    self._database.scoped_session.remove()  # what the lost connection left of a transaction
                if not repeated:
                    reason = first_line(error.__cause__ or error)
                    _log.warning("the study's database does not answer; waiting for it: %s", reason)
            repeated = True
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _ask(self, method: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> _T:
        """Call what may be repeated."""
        return self._patiently(lambda _: method(*args, **named))

    # ---- what must not happen twice ------------------------------------------------------------------

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """A repetition takes the study of that name for the one that it has created."""

        def attempt(repeated: bool) -> int:
            try:
                return self._storage.create_new_study(directions, study_name)
            except DuplicatedStudyError:
                if not repeated or study_name is None:
                    raise
                return self._storage.get_study_id_from_name(study_name)

        return self._patiently(attempt)

    def delete_study(self, study_id: int) -> None:
        """A repetition takes a study that is not there for the one that it has deleted."""

        def attempt(repeated: bool) -> None:
            try:
                self._storage.delete_study(study_id)
            except KeyError:
                if not repeated:
                    raise

        self._patiently(attempt)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """A repetition takes the trial of the next number for the one that it has created."""
        self._database.number = self._ask(self._database.count_trials, study_id)
        return self._ask(self._storage.create_new_trial, study_id, template_trial)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """A repetition takes a trial in that state for one that it has set."""

        def attempt(repeated: bool) -> bool:
            try:
                changed = self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if not repeated or self._storage.get_trial(trial_id).state is not state:
                    raise
                return True
            return changed or (repeated and self._storage.get_trial(trial_id).state is state)

        return self._patiently(attempt)

    # ---- what sets a value, and may be repeated ------------------------------------------------------

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:  # noqa: ANN401
        self._ask(self._storage.set_study_user_attr, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:  # noqa: ANN401
        self._ask(self._storage.set_study_system_attr, study_id, key, value)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self._ask(self._storage.set_trial_param, trial_id, param_name, param_value_internal, distribution)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._ask(self._storage.set_trial_intermediate_value, trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:  # noqa: ANN401
        self._ask(self._storage.set_trial_user_attr, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:  # noqa: ANN401
        self._ask(self._storage.set_trial_system_attr, trial_id, key, value)

    # ---- what reads ----------------------------------------------------------------------------------

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._ask(self._storage.get_study_id_from_name, study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._ask(self._storage.get_study_name_from_id, study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._ask(self._storage.get_study_directions, study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._ask(self._storage.get_study_user_attrs, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._ask(self._storage.get_study_system_attrs, study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._ask(self._storage.get_all_studies)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._ask(self._storage.get_trial_id_from_study_id_trial_number, study_id, trial_number)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._ask(self._storage.get_trial, trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._ask(self._storage.get_all_trials, study_id, deepcopy, states)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return self._ask(self._storage.get_best_trial, study_id)

    def remove_session(self) -> None:
        """Close the session of this thread."""
        self._database.remove_session()


def _connect(url: str) -> NumberedDatabase:
    """Optuna's storage, with its tables created or checked."""
    options: dict[str, Any] = {"pool_pre_ping": True}
    if not DatabaseLock.fits(url):
        return NumberedDatabase(url, engine_kwargs=options)
    name = f"aiq process {os.getpid()} on {socket.gethostname()}"[:63]
    options["connect_args"] = {"application_name": name}
    RDBStorage(url, engine_kwargs=dict(options)).engine.dispose()  # tables; for that it takes two connections
    # From here on there is one: the connection that holds the lock is the one that writes.
    options |= {"pool_size": 1, "max_overflow": 0}
    return NumberedDatabase(
        url, engine_kwargs=options, skip_compatibility_check=True, skip_table_creation=True
    )


def _is_away(error: BaseException) -> bool:
    """Whether an error is of the connection, so that another attempt may succeed."""
    cause: BaseException | None = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    # The last: the connection broke while a transaction was being rolled back.
    return isinstance(cause, OperationalError | InterfaceError | PendingRollbackError)
