"""Everything private of Optuna that the study relies on.

Each name has a test, which says what to do when a release of Optuna renames it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna._hypervolume import compute_hypervolume
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.storages.journal._storage import JournalOperation
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

if TYPE_CHECKING:  # sqlalchemy, which takes as long to import as all else: a study in a journal needs none
    from optuna.storages._rdb import models
    from sqlalchemy.orm import Session

__all__ = [
    "BaseJournalFileLock",
    "FrozenStudy",
    "JournalOperation",
    "NumberedDatabase",
    "OpenStudy",
    "WatchedJournal",
    "cached",
    "hypervolume",
    "study_id_of",
    "trial_id_of",
]


def hypervolume(losses: np.ndarray, reference: Sequence[float] | np.ndarray) -> float:
    """Volume between points, all to be minimised, and a reference that none of them exceeds."""
    return float(compute_hypervolume(losses, np.asarray(reference)))


def trial_id_of(trial: FrozenTrial | optuna.Trial) -> int:
    """The storage's id of a trial, which is not its number."""
    return trial._trial_id


def study_id_of(study: FrozenStudy) -> int:
    """The storage's id of a study."""
    return study._study_id


class OpenStudy(optuna.Study):
    """An Optuna study that shows its storage, and lets a subclass choose among the waiting trials."""

    @property
    def storage(self) -> BaseStorage:
        """The storage."""
        return self._storage

    @property
    def study_id(self) -> int:
        """The storage's id of the study."""
        return self._study_id

    def next_waiting(self) -> int | None:
        """Id of the waiting trial that ``ask`` takes, set running; None to draw a new one."""
        return super()._pop_waiting_trial_id()

    def _pop_waiting_trial_id(self) -> int | None:
        return self.next_waiting()


class WatchedJournal(JournalStorage):
    """A journal that has a subclass wrap its reading."""

    def read(self) -> None:
        """Read what others have written since the last time."""
        super()._sync_with_backend()

    def _sync_with_backend(self) -> None:
        self.read()


class NumberedDatabase(RDBStorage):
    """A database storage that creates the trial of a number once.

    Optuna repeats a transaction that creates a trial; the first may have been committed, and only the answer
    lost. The study's row is locked while this looks for the trial, so that a late transaction is waited for.
    """

    number: int = 0  # of the trial to be created next

    def count_trials(self, study_id: int) -> int:
        """How many trials a study has."""
        import sqlalchemy
        from optuna.storages._rdb import models

        count = sqlalchemy.select(sqlalchemy.func.count()).where(models.TrialModel.study_id == study_id)
        with self.engine.connect() as connection:
            return int(connection.scalar(count) or 0)

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        from optuna.storages._rdb import models

        trials = session.query(models.TrialModel)
        created = trials.filter_by(study_id=study_id, number=self.number).one_or_none()
        return created or super()._get_prepared_new_trial(study_id, template_trial, session)


def cached(storage: RDBStorage) -> BaseStorage:
    """A database storage that reads ended trials once."""
    return optuna.storages.get_storage(storage)
