"""A study's trials: an Optuna study for each phase in one storage, and the records that we read from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from aiq_search.errors import StudyError
from aiq_search.space import SearchSpace
from aiq_search.study.asking import AskingStudy
from aiq_search.study.events import Phase
from aiq_search.study.lock import DatabaseLock
from aiq_search.study.optuna_internals import study_id_of
from aiq_search.study.record import BEGIN, TrialRecord, failures
from aiq_search.study.storage import cut_torn_tail, open_journal, open_journal_to_look, open_storage

__all__ = ["FINALISTS", "StudyTrials", "delete_untried", "shared_document"]

# Attribute of the confirming Optuna study: the exploring trials under confirmation.
FINALISTS = "aiq.finalists"

# Attribute of the exploring Optuna study in a database: study.json, so that another machine can continue.
_DOCUMENT = "aiq.study"


class StudyTrials:
    """The trials of one study: an Optuna study for each phase, in a journal or a database.

    Looking needs no lock; whoever writes holds the study.

    Args:
        study: The study's id.
        journal: Optuna's journal.
        url: A database in place of the journal.
    """

    def __init__(self, study: str, journal: Path, url: str | None) -> None:
        self._study = study
        self._journal = journal
        self._url = url

    @cached_property
    def storage(self) -> BaseStorage:
        """Optuna's storage."""
        return open_storage(self._url) if self._url else open_journal(self._journal)

    @property
    def _to_look(self) -> BaseStorage:
        """The storage for those who only read records: of a journal, the part that they need."""
        return self.storage if self._url or "storage" in vars(self) else self._records

    @cached_property
    def _records(self) -> BaseStorage:
        return open_journal_to_look(self._journal)

    def lock(self) -> AbstractContextManager[object]:
        """The database's lock, which keeps other machines' drivers out; nothing where it has no such lock."""
        if self._url is None or not DatabaseLock.fits(self._url):
            return nullcontext()
        from aiq_search.study.database import PatientStorage  # sqlalchemy: a journal does not wait for it

        if not isinstance(self.storage, PatientStorage):
            return nullcontext()
        return DatabaseLock(self.storage.engine, self._study)

    def create(self, space: SearchSpace) -> None:
        """Create the Optuna studies.

        Raises:
            StudyError: The database has a study of this id, or cannot be reached.
        """
        if not self._url:
            self._journal.touch()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [StudyDirection[name.upper()] for _, name in space.objective.directions]
        for phase in Phase:
            try:
                optuna.create_study(
                    study_name=self.name_of(phase), storage=self.storage, directions=directions
                )
            except DuplicatedStudyError:
                raise StudyError(
                    f"study {self._study} exists already in the database; continue it with `aiq resume "
                    f"{self._study}`, or choose another id."
                ) from None

    def repair(self) -> int:
        """Cut what a crash left of an unfinished line in the journal; returns how many bytes."""
        return 0 if self._url else cut_torn_tail(self._journal)

    def delete(self) -> None:
        """Delete the Optuna studies from their database, as far as they are still there."""
        if not self._url:
            return  # the journal goes with the folder
        for phase in Phase:
            with suppress(KeyError):
                self.storage.delete_study(self.storage.get_study_id_from_name(self.name_of(phase)))

    def name_of(self, phase: Phase) -> str:
        """Name of the Optuna study of a phase; only exploring trials may steer the sampler or the pruner."""
        return self._study if phase is Phase.EXPLORE else f"{self._study}.{phase}"

    def load(
        self, phase: Phase, sampler: BaseSampler | None = None, pruner: BasePruner | None = None
    ) -> AskingStudy:
        """The Optuna study of a phase.

        Raises:
            StudyError: The storage does not have it.
        """
        if phase is Phase.REFERENCE and not self._has(phase, self.storage):
            directions = self.storage.get_study_directions(self._number(Phase.EXPLORE))
            self.storage.create_new_study(directions, self.name_of(phase))
        self._number(phase)  # its message is better than Optuna's
        return AskingStudy(self.name_of(phase), self.storage, sampler, pruner)

    def records(self, phase: Phase) -> Iterator[TrialRecord]:
        """The trials of a phase, in the order in which they began.

        Raises:
            StudyError: The storage is damaged, or does not answer.
        """
        for trial in self._all(phase):
            try:
                record = TrialRecord.from_optuna(self._study, phase, trial)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._damaged(f"trial {trial.number}: {type(error).__name__}: {error}") from None
            if record is not None:
                yield record

    def record(self, phase: Phase, number: int) -> TrialRecord:
        """The record of one trial.

        Raises:
            StudyError: There is no such trial.
        """
        for record in self.records(phase):
            if record.key.number == number:
                return record
        raise StudyError(f"study {self._study} has no trial {number}; `aiq trials {self._study}` lists them.")

    @property
    def all_trained(self) -> bool:
        """Whether no trial runs, and none that began earlier waits to run again."""
        return not any(
            trial.state is OptunaState.RUNNING
            or (trial.state is OptunaState.WAITING and BEGIN in trial.user_attrs)
            for phase in Phase
            for trial in self._all(phase)
        )

    @property
    def finalists(self) -> list[int]:
        """Numbers of the exploring trials under confirmation; empty before that."""
        storage = self._to_look
        attributes = storage.get_study_user_attrs(self._number(Phase.CONFIRM, storage))
        return list(attributes.get(FINALISTS, []))

    def forget_finalists(self) -> None:
        """Have the finalists chosen again."""
        self.storage.set_study_user_attr(self._number(Phase.CONFIRM), FINALISTS, [])

    def queue_failed(self, space: SearchSpace) -> int:
        """Queue the failed trials again, with the same configuration and seed; returns how many have failed.

        An ended trial stays as it is: the new one names the old one, which no longer counts.
        """
        records = [record for phase in Phase for record in self.records(phase)]
        failed = failures(records)
        for phase in Phase:
            again = self.load(phase)
            queued = {t.user_attrs[BEGIN].get("retry_of") for t in again.trials if BEGIN in t.user_attrs}
            for record in failed:
                if record.key.phase is phase and record.key.number not in queued:
                    again.enqueue_trial(space.encode(record.params), user_attrs={BEGIN: record.retry()})
        if any(record.key.phase is Phase.EXPLORE for record in failed) and self.finalists:
            # One of them may belong among the finalists. Those are chosen again; what is confirmed stays.
            self.forget_finalists()
        return len(failed)

    def share(self, document: Mapping[str, Any]) -> None:
        """Keep study.json in the database, where there is one, so that another machine can continue."""
        if self._url:
            self.storage.set_study_user_attr(self._number(Phase.EXPLORE), _DOCUMENT, dict(document))

    def _all(self, phase: Phase) -> list[FrozenTrial]:
        """Optuna's trials of a phase, to look at."""
        storage = self._to_look
        if phase is Phase.REFERENCE and not self._has(phase, storage):
            return []  # a study from before there was this phase
        return storage.get_all_trials(self._number(phase, storage), deepcopy=False)

    def _has(self, phase: Phase, storage: BaseStorage) -> bool:
        with suppress(KeyError):
            storage.get_study_id_from_name(self.name_of(phase))
            return True
        return False

    def _number(self, phase: Phase, storage: BaseStorage | None = None) -> int:
        """The storage's number of the Optuna study of a phase."""
        try:
            return (storage or self.storage).get_study_id_from_name(self.name_of(phase))
        except KeyError:
            raise self._damaged(f"no study {self.name_of(phase)!r} in it") from None

    def _damaged(self, what: str) -> StudyError:
        where = "its database" if self._url else self._journal
        return StudyError(f"study {self._study}: {where} is damaged ({what}); restore it from a copy.")


def shared_document(study: str, url: str) -> dict[str, Any] | None:
    """The study.json that a database keeps of a study, without the database's address; None if it has none.

    Raises:
        StudyError: The database cannot be reached.
    """
    storage = open_storage(url)
    try:
        document = storage.get_study_user_attrs(storage.get_study_id_from_name(study))[_DOCUMENT]
    except KeyError:
        return None
    return dict(document)


def delete_untried(study: str, url: str) -> None:
    """Delete a study in which nothing was tried from a database.

    Raises:
        StudyError: The database has trials of it: another machine runs it.
    """
    storage = open_storage(url)
    trials = StudyTrials(study, Path(), url)
    names = {trials.name_of(phase) for phase in Phase}
    for known in storage.get_all_studies():
        if known.study_name in names and storage.get_n_trials(study_id_of(known)):
            raise StudyError(
                f"study {study} has trials in the study database, of another cluster; nothing was changed. "
                f"Continue it with `aiq resume {study}`, or submit the file under another --study."
            )
    trials.delete()
