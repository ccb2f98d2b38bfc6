"""A study on disk: what is searched, and the truth about its trials."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from aiq_search.errors import StudyError
from aiq_search.places import Place
from aiq_search.redaction import redact
from aiq_search.space import SearchSpace
from aiq_search.study.asking import AskingStudy
from aiq_search.study.champion import Champion
from aiq_search.study.document import (
    FILE,
    DatasetDescription,
    Ended,
    StudyDocument,
    StudyOptions,
    check_study_id,
    is_study_id,
    new_study_id,
)
from aiq_search.study.events import Phase
from aiq_search.study.folder import StudyFolder
from aiq_search.study.home import absolute_tracking_uri, aiq_home
from aiq_search.study.lock import StudyLock
from aiq_search.study.record import TrialRecord, failures
from aiq_search.study.trials import FINALISTS, StudyTrials, delete_untried, shared_document
from aiq_search.study.view import champion_of
from aiq_search.suggest import did_you_mean

__all__ = [
    "EXPLORED_SECONDS",
    "FINALISTS",
    "Study",
    "check_study_id",
    "clear_unborn",
    "list_studies",
    "new_study_id",
    "unreadable_studies",
]

# Attribute of the exploring Optuna study: how long its drivers have explored, where that is limited.
EXPLORED_SECONDS = "aiq.explored_seconds"


class Study(StudyFolder):
    """One search over a space.

    A study is a folder: ``study.json`` says what is searched and where it comes from, and the journal
    (or the database that study.json names) holds every trial. Looking at it needs no lock.

    Args:
        directory: The folder.
        document: study.json.
        trials: The trials, where they are open already.
    """

    def __init__(self, directory: Path, document: StudyDocument, trials: StudyTrials | None = None) -> None:
        super().__init__(directory, document)
        self._trials = trials or StudyTrials(document.study, self.journal, document.trials_url)

    @classmethod
    def create(
        cls,
        home: Path,
        space: SearchSpace,
        dataset: DatasetDescription | Mapping[str, Any],
        study_id: str | None = None,
        **options: Unpack[StudyOptions],
    ) -> Study:
        """Create a new study in AIQ_HOME; the arguments are those of ``StudyDocument.new``.

        Raises:
            StudyError: The id is malformed or taken.
        """
        document = StudyDocument.new(space, dataset, study_id, **options)
        study = cls(home / "studies" / document.study, document)
        try:
            study.directory.mkdir(parents=True)
        except FileExistsError:
            raise StudyError(
                f"study {study.id} exists already; continue it with `aiq resume {study.id}`, or choose "
                "another id."
            ) from None
        study.checkpoints.mkdir(parents=True, exist_ok=True)
        study._trials.create(space)
        study._share()
        study._write(document)  # last: a folder with study.json is a whole study
        return study

    @classmethod
    def fetch(cls, home: Path, study_id: str, url: str) -> Study:
        """Take a study over from another machine: its folder is made again from its database.

        Raises:
            StudyError: The database does not have it, or cannot be reached.
        """
        shared = shared_document(check_study_id(study_id), url)
        if shared is None:
            raise StudyError(
                f"no study {study_id!r} in {home.absolute()}, nor in the database of --study-storage; a "
                "study is taken over by its id."
            )
        source = f"study {study_id} in its database"
        document = StudyDocument.parse(shared | {"study": study_id, "trials_url": url}, source)
        study = cls(home / "studies" / study_id, document)
        study.directory.mkdir(parents=True, exist_ok=True)
        study._write(document)
        return study

    @classmethod
    def open(cls, name: str, home: Path | None = None) -> Study:
        """Open a study to look at: that of an id, or the newest of a space's name in which a trial has begun.

        Args:
            name: As behind ``aiq best``: a study's id, or a space's name.
            home: Folder of the studies; by default ``AIQ_HOME``, or ``.aiq`` in the current folder.

        Raises:
            StudyError: There is none, or study.json is damaged.
        """
        home = home or aiq_home()
        directory = home / "studies" / name
        if is_study_id(name) and (directory / FILE).is_file():
            return cls._read(directory)
        of_space = [study for study in list_studies(home) if study.space.name == name]
        if not of_space:
            raise _not_found(home, name)
        # One that failed to start must not hide the one before it.
        begun = (study for study in reversed(of_space) if any(study._trials.records(Phase.EXPLORE)))
        return next(begun, of_space[-1])

    @classmethod
    def _read(cls, directory: Path) -> Study:
        if not (directory / FILE).is_file():
            raise _not_found(directory.parent.parent, directory.name)
        return cls(directory, StudyDocument.read(directory / FILE))

    def refreshed(self) -> Study:
        """The same study as it is on disk now."""
        return Study._read(self.directory)

    @property
    def storage(self) -> BaseStorage:
        """Optuna's storage."""
        return self._trials.storage

    def load(
        self, phase: Phase, sampler: BaseSampler | None = None, pruner: BasePruner | None = None
    ) -> AskingStudy:
        """The Optuna study of a phase.

        Raises:
            StudyError: The storage does not have it.
        """
        return self._trials.load(phase, sampler, pruner)

    def records(self, phase: Phase | None = None) -> list[TrialRecord]:
        """The record of each trial, in the order in which they began.

        Args:
            phase: Only of this phase; by default exploring trials, then confirmations.
        """
        return [record for each in ([phase] if phase else Phase) for record in self._trials.records(each)]

    def record(self, phase: Phase, number: int) -> TrialRecord:
        """The record of one trial.

        Raises:
            StudyError: There is no such trial.
        """
        return self._trials.record(phase, number)

    def failed(self) -> list[TrialRecord]:
        """The failed trials that have not been run again."""
        return failures(self.records())

    @property
    def finalists(self) -> list[int]:
        """Numbers of the exploring trials under confirmation; empty before that."""
        return self._trials.finalists

    def champion(self) -> Champion:
        """The champion as far as the study has come.

        Raises:
            NothingFeasibleError: No configuration meets the constraints.
        """
        return champion_of(self)

    @property
    def complete(self) -> bool:
        """Whether it ended in good order and nothing waits to be trained.

        A queued point that a finished search left alone (its budget was used up, its target reached) waits
        for more trials; what `aiq retry` queued waits to be trained.
        """
        return self._document.ended == "finished" and self._trials.all_trained

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the study's only driver while the context lasts: whatever writes to it needs this.

        Its database is locked too: a folder may be on a file system without locks, or copied elsewhere.

        Raises:
            StudyError: Another driver holds it; the message names it.
        """
        with StudyLock(self.directory / "lock"), self._trials.lock():
            yield

    def extended(self, trials: int) -> Study:
        """The study with another budget of exploring trials; nothing is written before ``reopen``.

        Raises:
            InputError: ``trials`` is not a possible budget.
        """
        return Study(self.directory, self.document.extended(trials), self._trials)

    def reopen(self, tracking_uri: str) -> None:
        """Begin, or continue after an end: the study is not over any more. Hold it.

        With a larger budget than study.json has (``extended``), the finalists are chosen again. That is
        written under the old budget, so that whoever resumes after a crash in between continues that one.

        Args:
            tracking_uri: MLflow's store with the runs; it is kept without credentials.
        """
        wanted, before = self._document, self._saved()
        if wanted.space.search.trials > before.space.search.trials and self.finalists:
            self._write(before.changed(ended=None))
            self.choose_finalists_anew()
        uri = redact(absolute_tracking_uri(tracking_uri))
        self._write(wanted.changed(ended=None, closed=None, tracking_uri=uri))
        self._share()

    def mark_ended(self, reason: Ended) -> None:
        """Write down how the driver leaves the study. Hold it."""
        self._write(self._document.changed(ended=reason))

    def mark_closed(self, time: float) -> None:
        """Write down when the command that ran the study ended. Hold it."""
        self._write(self._document.changed(closed=time))

    def moved(self, place: str) -> Study:
        """Move checkpoints and weights to another place. Hold the study.

        Args:
            place: The folder or address that every node reaches.

        Returns:
            The study with its new place, to be used from now on.

        Raises:
            OSError: Some file cannot be written; the study stays as it was.
        """
        if self._document.checkpoint_place == place:
            return self
        study = Study(self.directory, self._document.changed(checkpoint_place=place), self._trials)
        files: list[Place] = [*self.checkpoints.glob("*.safetensors")]
        study.checkpoints.mkdir(parents=True, exist_ok=True)
        for file in files:
            (study.checkpoints / file.name).write_whole(file.read_bytes())
        self._saved().changed(checkpoint_place=place).write(self.directory / FILE)
        for file in files:
            file.discard()
        return study

    def choose_finalists_anew(self) -> None:
        """Forget the finalists, not what is confirmed: there will be more trials. Hold the study."""
        self._trials.forget_finalists()

    def queue_failed(self) -> int:
        """Queue the failed trials to run again; returns how many failed. Hold the study."""
        return self._trials.queue_failed(self.space)

    def repair(self) -> list[str]:
        """Remove what a crash left half-written. Hold the study.

        Returns:
            A sentence for what was cut from the journal.
        """
        for path in self.leftovers():
            path.unlink(missing_ok=True)
        cut = self._trials.repair()
        return [f"{self.journal}: cut {cut} bytes of an unfinished line after a crash."] if cut else []

    def delete(self) -> None:
        """Delete the trials, the files, and the folder last. Hold the study."""
        self._trials.delete()
        self.files.remove_tree()
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def _share(self) -> None:
        self._trials.share(self._document.as_json(exclude={"trials_url"}))  # which may hold a password


def clear_unborn(home: Path, study_id: str, url: str | None = None) -> None:
    """Delete what a driver left that died while it created a study, so that it can be created again.

    Args:
        home: AIQ_HOME.
        study_id: The study's id.
        url: The database of its trials, where there is one.

    Raises:
        StudyError: The database has trials of it: another machine runs it.
    """
    if url:
        delete_untried(study_id, url)
    shutil.rmtree(home / "studies" / study_id)


def list_studies(home: Path) -> list[Study]:
    """The studies in AIQ_HOME, the oldest first; without those of ``unreadable_studies``."""
    studies = [found for found in _read_all(home).values() if isinstance(found, Study)]
    return sorted(studies, key=lambda study: (study.document.created, study.id))


def unreadable_studies(home: Path) -> dict[str, StudyError]:
    """The folders in AIQ_HOME whose study.json cannot be read, each with the reason."""
    return {name: found for name, found in _read_all(home).items() if isinstance(found, StudyError)}


def _read_all(home: Path) -> dict[str, Study | StudyError]:
    studies: dict[str, Study | StudyError] = {}
    for path in sorted((home / "studies").glob(f"*/{FILE}")):
        try:
            studies[path.parent.name] = Study._read(path.parent)
        except StudyError as error:
            studies[path.parent.name] = error
    return studies


def _not_found(home: Path, study_id: str) -> StudyError:
    names = {name for study in list_studies(home) for name in (study.id, study.space.name)}
    hint = did_you_mean(study_id, names) if names else "there is none yet: `aiq search` begins one."
    return StudyError(
        f"no study {study_id!r} in {home.absolute()}; {hint} A study is in the folder in which its search "
        "was started; AIQ_HOME names another."
    )
