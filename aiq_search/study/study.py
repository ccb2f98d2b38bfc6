"""A study on disk: what is searched, and the truth about its trials."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from pydantic import ValidationError

from aiq_search.errors import InputError, StudyError
from aiq_search.files import Place, discard, place_of, remove_tree, write_whole
from aiq_search.redaction import redact
from aiq_search.space import SearchSpace
from aiq_search.study.asking import AskingStudy
from aiq_search.study.champion import Champion, choose_champion
from aiq_search.study.document import FILE, DatasetDescription, Ended, StudyDocument
from aiq_search.study.events import Phase, TrialKey
from aiq_search.study.home import absolute_tracking_uri, default_tracking_uri
from aiq_search.study.lock import StudyLock
from aiq_search.study.provenance import Provenance
from aiq_search.study.record import TrialRecord, failures
from aiq_search.study.storage import cut_torn_tail
from aiq_search.study.trials import FINALISTS, StudyTrials, clear_unborn, shared_document
from aiq_search.suggest import did_you_mean

if TYPE_CHECKING:
    from aiq_search.models import Architecture

__all__ = ["EXPLORED_SECONDS", "FINALISTS", "Study", "check_study_id", "list_studies", "new_study_id"]

# Attribute of the exploring Optuna study: how long its drivers have explored, where that is limited.
EXPLORED_SECONDS = "aiq.explored_seconds"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")


class Study:
    """One search over a space.

    A study is a folder: ``study.json`` says what is searched and where it comes from, and the journal
    (or the database that study.json names) holds every trial. Looking at it needs no lock.

    Args:
        directory: The folder.
        document: study.json.
        trials: The trials, where they are open already.

    Attributes:
        directory: The folder.
    """

    def __init__(self, directory: Path, document: StudyDocument, trials: StudyTrials | None = None) -> None:
        self.directory = directory
        self._document = document
        self._trials = trials or StudyTrials(document.study, self.journal, document.trials_url)

    # ---- creating and finding ------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        home: Path,
        space: SearchSpace,
        dataset: DatasetDescription | Mapping[str, Any],
        study_id: str | None = None,
        *,
        provenance: Provenance | None = None,
        trials_url: str | None = None,
        checkpoint_place: str | None = None,
        data_dir: Path | None = None,
        warm_start: Sequence[str] = (),
    ) -> Study:
        """Create a new study.

        Args:
            home: AIQ_HOME.
            space: What is searched.
            dataset: The data, as ``Dataset.description`` gives them.
            study_id: Its id; by default ``<space>-<YYYYMMDD-HHMMSS>-<4 hex>``.
            provenance: Where it comes from; by default this process.
            trials_url: URL of a database for the trials; by default a journal in the folder.
            checkpoint_place: A place for checkpoints that every node reaches; by default the folder.
            data_dir: Folder of the data files.
            warm_start: Ids of the studies that the sampler learns from.

        Raises:
            StudyError: The id is malformed or taken.
        """
        study_id = check_study_id(study_id) if study_id is not None else new_study_id(space)
        document = StudyDocument(
            study=study_id,
            space=space,
            fingerprint=space.fingerprint,
            seed=space.search.seed,
            beta=space.objective.beta,
            created=time.time(),
            dataset=DatasetDescription.model_validate(dataset),
            provenance=provenance or Provenance.of_this_process(),
            trials_url=trials_url,
            checkpoint_place=checkpoint_place,
            data_dir=data_dir,
            warm_start=tuple(warm_start),
        )
        study = cls(home / "studies" / study_id, document)
        try:
            study.directory.mkdir(parents=True)
        except FileExistsError:
            raise StudyError(
                f"study {study_id} exists already; continue it with `aiq resume {study_id}`, or choose "
                "another id."
            ) from None
        study.checkpoints.mkdir(parents=True, exist_ok=True)
        study._trials.create(space)
        study._share()
        document.write(study.directory / FILE)  # last: a folder with study.json is a whole study
        return study

    @classmethod
    def fetch(cls, home: Path, study_id: str, url: str) -> Study:
        """Take a study over from another machine: its folder is made again from its database.

        Args:
            home: AIQ_HOME.
            study_id: Its id.
            url: The database.

        Raises:
            StudyError: The database does not have it, or cannot be reached.
        """
        shared = shared_document(check_study_id(study_id), url)
        if shared is None:
            raise StudyError(
                f"no study {study_id!r} in {home.absolute()}, nor in the database of --study-storage; a "
                "study is taken over by its id."
            )
        document = StudyDocument.parse(shared | {"trials_url": url}, f"study {study_id} in its database")
        study = cls(home / "studies" / study_id, document)
        study.directory.mkdir(parents=True, exist_ok=True)
        document.write(study.directory / FILE)
        return study

    @classmethod
    def open(cls, home: Path, study_id: str) -> Study:
        """Open a study to look at.

        Raises:
            StudyError: It is not there, or study.json is damaged.
        """
        directory = home / "studies" / study_id
        path = directory / FILE
        if not _ID.fullmatch(study_id) or not path.is_file():
            names = {name for study in list_studies(home) for name in (study.id, study.space.name)}
            hint = did_you_mean(study_id, names) if names else "there is none yet: `aiq search` begins one."
            raise StudyError(
                f"no study {study_id!r} in {home.absolute()}; {hint} A study is in the folder in which its "
                "search was started; AIQ_HOME names another."
            )
        return cls(directory, StudyDocument.read(path))

    @classmethod
    def find(cls, home: Path, name: str) -> Study:
        """Open the study of an id, or the newest of a space's name in which a trial has begun.

        Raises:
            StudyError: There is none.
        """
        if (home / "studies" / name / FILE).is_file():
            return cls.open(home, name)
        of_space = [study for study in list_studies(home) if study.space.name == name]
        for study in reversed(of_space):  # one that failed to start must not hide the one before it
            if next(study._trials.records(Phase.EXPLORE), None) is not None:
                return study
        if of_space:
            return of_space[-1]
        return cls.open(home, name)  # for its message

    @staticmethod
    def clear_unborn(home: Path, study_id: str, url: str | None = None) -> None:
        """Delete what a driver left that died while it created a study, so that it can be created again.

        Raises:
            StudyError: The database has trials of it: another machine runs it.
        """
        if url:
            clear_unborn(study_id, url)
        shutil.rmtree(home / "studies" / study_id)

    def refreshed(self) -> Study:
        """The same study as it is on disk now."""
        return Study.open(self.home, self.id)

    # ---- what it is ----------------------------------------------------------------------------------

    @property
    def document(self) -> StudyDocument:
        """study.json; methods of the study change it."""
        return self._document

    @property
    def id(self) -> str:
        """The study's id."""
        return self._document.study

    @property
    def space(self) -> SearchSpace:
        """What is searched."""
        return self._document.space

    @property
    def home(self) -> Path:
        """AIQ_HOME, which has the study's folder."""
        return self.directory.parent.parent

    @property
    def files(self) -> Place:
        """Folder of what the workers write: the study's own, or one in the storage that nodes share."""
        shared = self._document.checkpoint_place
        return place_of(shared) / self.id if shared else self.directory.resolve()

    @property
    def checkpoints(self) -> Place:
        """Folder of unfinished trials and of the best networks' weights."""
        return self.files / "checkpoints"

    def checkpoint_path(self, key: TrialKey) -> Place:
        """Where an unfinished trial is kept."""
        return self.checkpoints / f"{key.phase}-{key.number:04d}.unfinished.safetensors"

    def weights_path(self, key: TrialKey) -> Place:
        """Where a finished trial's weights are, if they were kept."""
        return self.checkpoints / f"{key.phase}-{key.number:04d}.safetensors"

    @property
    def journal(self) -> Path:
        """Optuna's journal."""
        return self.directory / "study.journal"

    @property
    def data_dir(self) -> Path | None:
        """Folder of the data files, where one was given."""
        return self._document.data_dir

    def tracking_uri(self, named: str | None = None) -> str:
        """MLflow's store with the study's runs.

        Later commands find the runs wherever and with whatever environment they are given.

        Args:
            named: The store that the user names; it takes precedence.

        Raises:
            InputError: The store needs credentials, which study.json does not hold, and the environment
                names another store.
        """
        if named is not None:
            return named
        uri, default = self._document.tracking_uri, default_tracking_uri()
        if uri is None or uri == redact(default):
            return default
        if os.environ.get("AIQ_JOB"):
            return default  # the cluster's server, wherever that listens by now
        if uri == redact(uri) and "***" not in uri:
            return uri
        raise InputError(
            f"study {self.id} has its runs at {uri}, whose credentials are not kept: name it, with them, by "
            "--tracking-uri or MLFLOW_TRACKING_URI."
        )

    def architecture(self, params: Mapping[str, Any]) -> Architecture:
        """The network of a configuration."""
        from aiq_search.models import Architecture  # torch: looking at a study must not wait for it

        dataset = self._document.dataset
        return Architecture(
            self.space.model.name,
            self.space.model_arguments(params),
            dataset.input_shape,
            len(dataset.classes),
        )

    # ---- its trials ----------------------------------------------------------------------------------

    @property
    def storage(self) -> BaseStorage:
        """Optuna's storage."""
        return self._trials.storage

    def name_of(self, phase: Phase) -> str:
        """Name of the Optuna study of a phase."""
        return self._trials.name_of(phase)

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
        for record in self._trials.records(phase):
            if record.key.number == number:
                return record
        raise StudyError(f"study {self.id} has no trial {number}; `aiq trials {self.id}` lists them.")

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
        return choose_champion(
            self.space, self.records(Phase.EXPLORE), self.records(Phase.CONFIRM), self.finalists
        )

    # ---- its life ------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a driver holds it now."""
        return StudyLock.is_held(self.directory / "lock")

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

        Raises:
            StudyError: Another driver holds it; the message names it.
        """
        # The folder may be shared by a file system without locks, or copied to another machine.
        with StudyLock(self.directory / "lock"), self._trials.lock():
            yield

    def extended(self, trials: int) -> Study:
        """The study with another budget of exploring trials; nothing is written before ``reopen``.

        Raises:
            InputError: ``trials`` is not a possible budget.
        """
        space = self.space.document()
        space["search"]["trials"] = trials
        try:
            document = self._document.changed(space=SearchSpace.model_validate(space))
        except ValidationError as error:
            raise InputError(f"search.trials: {trials}: {error.errors()[0]['msg']}.") from None
        return Study(self.directory, document, self._trials)

    def reopen(self, tracking_uri: str) -> None:
        """Begin, or continue after an end: the study is not over any more. Hold it.

        With a larger budget than study.json has (``extended``), the finalists are chosen again. That is
        written under the old budget, so that whoever resumes after a crash in between continues that one.

        Args:
            tracking_uri: MLflow's store with the runs; it is kept without credentials.
        """
        before = StudyDocument.read(self.directory / FILE)
        wanted = self._document
        if wanted.space.search.trials > before.space.search.trials and self.finalists:
            self._write(wanted.changed(space=before.space, ended=None))
            self.choose_finalists_anew()
        uri = redact(absolute_tracking_uri(tracking_uri))
        self._write(wanted.changed(ended=None, tracking_uri=uri))
        self._share()

    def mark_ended(self, reason: Ended) -> None:
        """Write down how the driver leaves the study. Hold it."""
        self._write(self._document.changed(ended=reason))

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
        old: list[Place] = []
        old += self.checkpoints.glob("*.safetensors")
        study.checkpoints.mkdir(parents=True, exist_ok=True)
        for file in old:
            write_whole(study.checkpoints / file.name, file.read_bytes())
        study._write(study.document)
        for file in old:
            discard(file)
        return study

    def choose_finalists_anew(self) -> None:
        """Forget who the finalists are, because there will be more trials to choose from. Hold the study.

        What is confirmed stays, and a trial with all its seeds stays a finalist.
        """
        self._trials.forget_finalists()

    def queue_failed(self) -> int:
        """Queue the failed trials to run again; returns how many failed. Hold the study."""
        return self._trials.queue_failed(self.space)

    def leftovers(self) -> list[Place]:
        """Files that a killed process left half-written. Hold the study: else their writer may be alive."""
        places: list[Place] = list(self.directory.glob("*.part"))
        for pattern in ("*.part", ".probe-*"):
            places += self.checkpoints.glob(pattern)
        return places

    def repair(self) -> list[str]:
        """Remove what a crash left half-written. Hold the study.

        Returns:
            A sentence for what was cut from the journal.
        """
        for path in self.leftovers():
            path.unlink(missing_ok=True)
        if self._document.trials_url:
            return []
        cut = cut_torn_tail(self.journal)
        return [f"{self.journal}: cut {cut} bytes of an unfinished line after a crash."] if cut else []

    def delete(self) -> None:
        """Delete the trials, the files, and the folder last. Hold the study."""
        if self._document.trials_url:
            self._trials.delete()
        remove_tree(self.files)
        if self.directory.exists():
            remove_tree(self.directory)

    def _write(self, document: StudyDocument) -> None:
        document.write(self.directory / FILE)
        self._document = document

    def _share(self) -> None:
        document = self._document.as_json()
        del document["trials_url"]  # it may hold a password
        self._trials.share(document)


def new_study_id(space: SearchSpace) -> str:
    """An id that no other study has: ``<space>-<YYYYMMDD-HHMMSS>-<4 hex>``."""
    return f"{space.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def check_study_id(study_id: str) -> str:
    """Return an id that the user gave.

    Raises:
        StudyError: It is malformed.
    """
    if not _ID.fullmatch(study_id):
        raise StudyError(
            f"--study {study_id!r}: expected letters, digits, '.', '_' and '-', beginning with a letter or "
            "digit."
        )
    return study_id


def list_studies(home: Path) -> list[Study]:
    """The studies in AIQ_HOME, the oldest first; a damaged one is left out."""
    studies = []
    for path in (home / "studies").glob(f"*/{FILE}"):
        try:
            studies.append(Study(path.parent, StudyDocument.read(path)))
        except StudyError:
            continue
    return sorted(studies, key=lambda study: (study.document.created, study.id))
