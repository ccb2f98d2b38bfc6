"""A study on disk: what is searched, and the truth about its trials."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

from aiq_search.errors import StudyError
from aiq_search.files import Place, place_of
from aiq_search.space import SearchSpace
from aiq_search.study.asking import AskingStudy
from aiq_search.study.champion import Champion, choose_champion
from aiq_search.study.database import DatabaseLock, PatientStorage
from aiq_search.study.events import Phase, TrialKey
from aiq_search.study.lock import StudyLock
from aiq_search.study.record import BEGIN, TrialRecord
from aiq_search.study.storage import open_journal, open_storage
from aiq_search.suggest import did_you_mean

if TYPE_CHECKING:
    from aiq_search.models import Architecture

__all__ = ["EXPLORED_SECONDS", "FINALISTS", "Study", "check_study_id", "list_studies", "new_study_id"]

# Attribute of the confirming Optuna study: the exploring trials under confirmation.
FINALISTS = "aiq.finalists"

# Attribute of the exploring Optuna study: how long its drivers have explored, where that is limited.
EXPLORED_SECONDS = "aiq.explored_seconds"

# Attribute of the exploring Optuna study in a database: study.json, for another machine to go on with.
_DOCUMENT = "aiq.study"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")


class Study:
    """One search over a space.

    A study is a folder: ``study.json`` says what is searched and how it came about, and the journal
    (or the database that study.json names) holds every trial. Looking at it needs no lock.

    Attributes:
        directory: The folder.
        document: study.json.
    """

    def __init__(self, directory: Path, document: Mapping[str, Any]) -> None:
        self.directory = directory
        self.document = dict(document)

    @classmethod
    def create(
        cls, home: Path, space: SearchSpace, facts: Mapping[str, Any], study_id: str | None = None
    ) -> Study:
        """Make a new study.

        Args:
            home: AIQ_HOME.
            space: What is searched.
            facts: More of study.json: command, versions, git_commit, dataset, tracking_uri, data_dir,
                storage (a database's URL, or None for a journal), files (a place that every node reaches).
            study_id: Its id; by default ``<space>-<YYYYMMDD-HHMMSS>-<4 hex>``.

        Raises:
            StudyError: The id is malformed or taken.
        """
        study_id = check_study_id(study_id) if study_id is not None else new_study_id(space)
        directory = home / "studies" / study_id
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            raise StudyError(
                f"study {study_id} exists already; continue it with `aiq resume {study_id}`, or choose "
                "another id."
            ) from None
        document = {
            "schema_version": 1,
            "study": study_id,
            "space": space.document(),
            "fingerprint": space.fingerprint,
            "seed": space.search.seed,
            "beta": space.objective.beta,
            "capture": "after",
            "created": time.time(),
            **facts,
        }
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = cls(directory, document)
        study.checkpoints.mkdir(parents=True, exist_ok=True)
        if not document.get("storage"):
            study.journal.touch()
        study._begin_in_storage()
        study.share()
        study.save()  # last: a folder with study.json is a whole study
        return study

    def _begin_in_storage(self) -> None:
        directions = [StudyDirection[name.upper()] for _, name in self.space.objective.directions]
        for phase in Phase:
            try:
                optuna.create_study(
                    study_name=self.name_of(phase), storage=self.storage, directions=directions
                )
            except DuplicatedStudyError:
                raise StudyError(
                    f"study {self.id} exists already in the database; continue it with `aiq resume "
                    f"{self.id}`, or choose another id."
                ) from None

    @classmethod
    def fetch(cls, home: Path, study_id: str, url: str) -> Study:
        """Take a study over from another machine: its folder is made anew from its database.

        Args:
            home: AIQ_HOME.
            study_id: Its id.
            url: The database.

        Raises:
            StudyError: The database does not have it, or cannot be reached.
        """
        storage = open_storage(url)
        try:
            number = storage.get_study_id_from_name(check_study_id(study_id))
            document = storage.get_study_user_attrs(number)[_DOCUMENT]
        except KeyError:
            raise StudyError(
                f"no study {study_id!r} in {home.absolute()}, nor in the database of --study-storage; a "
                "study is taken over by its id."
            ) from None
        study = cls(home / "studies" / study_id, {**document, "storage": url})
        study.directory.mkdir(parents=True, exist_ok=True)
        study.save()
        return study

    def share(self) -> None:
        """Keep study.json in the study's database, too, where it has one, for ``fetch``.

        Not the database's address: it may hold a password.
        """
        if self.document.get("storage"):
            document = {name: value for name, value in self.document.items() if name != "storage"}
            self.storage.set_study_user_attr(self._number(Phase.EXPLORE), _DOCUMENT, document)

    @classmethod
    def open(cls, home: Path, study_id: str) -> Study:
        """Open a study to look at.

        Raises:
            StudyError: It is not there, or study.json is damaged.
        """
        directory = home / "studies" / study_id
        path = directory / "study.json"
        if not _ID.fullmatch(study_id) or not path.is_file():
            found = list_studies(home)
            known = {name for each in found for name in (each.id, each.document["space"]["name"])}
            hint = did_you_mean(study_id, known) if known else "there is none yet: `aiq search` begins one."
            raise StudyError(
                f"no study {study_id!r} in {home.absolute()}; {hint} Studies stand in the folder in which "
                "they were begun; AIQ_HOME names another."
            )
        return cls(directory, _read_document(path))

    @classmethod
    def find(cls, home: Path, name: str) -> Study:
        """Open the study of an id, or the newest of a space's name in which a trial has begun.

        Raises:
            StudyError: There is none.
        """
        if (home / "studies" / name / "study.json").is_file():
            return cls.open(home, name)
        of_space = [study for study in list_studies(home) if study.document["space"]["name"] == name]
        for study in reversed(of_space):  # one that failed to start must not hide the one before it
            if next(study._records(Phase.EXPLORE), None) is not None:
                return study
        if of_space:
            return of_space[-1]
        return cls.open(home, name)  # for its message

    def save(self) -> None:
        """Write study.json, for its owner alone: a database's URL may hold a password.

        The file is whole or the old one.
        """
        path = self.directory / "study.json"
        temporary = path.with_suffix(".part")
        temporary.touch(mode=0o600)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(self.document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @property
    def id(self) -> str:
        """The study's id."""
        return str(self.document["study"])

    @property
    def files(self) -> Place:
        """Folder of what the workers write: the study's own, or one in the storage that nodes share."""
        shared = self.document.get("files")
        return place_of(shared) / self.id if shared else self.directory.resolve()

    @property
    def checkpoints(self) -> Place:
        """Folder of unfinished trials and of the best networks' weights."""
        return self.files / "checkpoints"

    @property
    def journal(self) -> Path:
        """Optuna's journal."""
        return self.directory / "study.journal"

    @property
    def data_dir(self) -> Path | None:
        """Where the data files were, if it was said."""
        given = self.document.get("data_dir")
        return None if given is None else Path(given)

    @property
    def is_running(self) -> bool:
        """Whether a driver holds it now."""
        return StudyLock.is_held(self.directory / "lock")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the study's only driver while the context lasts: what writes to it needs this.

        Raises:
            StudyError: Another driver holds it; the message names it.
        """
        with StudyLock(self.directory / "lock"):
            url = self.document.get("storage")
            if url is None or not isinstance(self.storage, PatientStorage) or not DatabaseLock.fits(url):
                yield
                return
            # The folder may be shared by a file system without locks, or copied to another machine.
            with DatabaseLock(self.storage, self.id):
                yield

    @cached_property
    def space(self) -> SearchSpace:
        """What is searched."""
        return SearchSpace.model_validate(self.document["space"])

    @cached_property
    def storage(self) -> BaseStorage:
        """Optuna's storage."""
        url = self.document.get("storage")
        return open_storage(url) if url else open_journal(self.journal)

    def name_of(self, phase: Phase) -> str:
        """Name of the Optuna study of a phase; confirmations must not steer the sampler or the pruner."""
        return self.id if phase is Phase.EXPLORE else f"{self.id}.confirm"

    def load(
        self, phase: Phase, sampler: BaseSampler | None = None, pruner: BasePruner | None = None
    ) -> AskingStudy:
        """The Optuna study of a phase.

        Raises:
            StudyError: The storage does not have it.
        """
        self._number(phase)  # says what is wrong where it is not there
        return AskingStudy(self.name_of(phase), self.storage, sampler, pruner)

    def records(self, phase: Phase | None = None) -> list[TrialRecord]:
        """What is known of each trial, in the order in which they began.

        Args:
            phase: Only of this phase; by default exploring trials, then confirmations.
        """
        return [record for each in ([phase] if phase else Phase) for record in self._records(each)]

    def _records(self, phase: Phase) -> Iterator[TrialRecord]:
        for trial in self.storage.get_all_trials(self._number(phase), deepcopy=False):
            try:
                record = TrialRecord.from_optuna(self.id, phase, trial)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._damaged(f"trial {trial.number}: {type(error).__name__}: {error}") from None
            if record is not None:
                yield record

    def _number(self, phase: Phase) -> int:
        """The storage's number for the Optuna study of a phase."""
        try:
            return self.storage.get_study_id_from_name(self.name_of(phase))
        except KeyError:
            raise self._damaged(f"no study {self.name_of(phase)!r} in it") from None

    def _damaged(self, what: str) -> StudyError:
        where = "its database" if self.document.get("storage") else self.journal
        return StudyError(f"study {self.id}: {where} is damaged ({what}); restore it from a copy.")

    def record(self, phase: Phase, number: int) -> TrialRecord:
        """What is known of one trial.

        Raises:
            StudyError: There is no such trial.
        """
        for record in self._records(phase):
            if record.key.number == number:
                return record
        raise StudyError(f"study {self.id} has no trial {number}; `aiq trials {self.id}` lists them.")

    @property
    def finalists(self) -> list[int]:
        """Numbers of the exploring trials under confirmation; empty before that."""
        attributes = self.storage.get_study_user_attrs(self._number(Phase.CONFIRM))
        return list(attributes.get(FINALISTS, []))

    @property
    def complete(self) -> bool:
        """Whether it ended in good order and nothing waits to be trained.

        A queued point that a finished search left alone (its budget was used up, its target reached) waits
        for more trials; what `aiq retry` queued waits to be trained.
        """
        if self.document.get("ended") != "finished":
            return False
        return not any(
            trial.state is OptunaState.RUNNING
            or (trial.state is OptunaState.WAITING and BEGIN in trial.user_attrs)
            for phase in Phase
            for trial in self.load(phase).get_trials(deepcopy=False)
        )

    def choose_finalists_anew(self) -> None:
        """Forget who the finalists are, because there will be more trials to choose from.

        What is confirmed stays, and who has all seeds stays a finalist. Hold the study.
        """
        self.load(Phase.CONFIRM).set_user_attr(FINALISTS, [])

    def champion(self) -> Champion:
        """The champion as far as the study has come.

        Raises:
            NothingFeasibleError: No configuration meets the constraints.
        """
        return choose_champion(
            self.space, self.records(Phase.EXPLORE), self.records(Phase.CONFIRM), self.finalists
        )

    def architecture(self, params: Mapping[str, Any]) -> Architecture:
        """The network of a configuration."""
        from aiq_search.models import Architecture  # torch: looking at a study must not wait for it

        dataset = self.document["dataset"]
        return Architecture(
            self.space.model.name,
            self.space.model_arguments(params),
            tuple(dataset["input_shape"]),
            len(dataset["classes"]),
        )

    def checkpoint_path(self, key: TrialKey) -> Place:
        """Where an unfinished trial is kept."""
        return self.checkpoints / f"{key.phase}-{key.number:04d}.unfinished.safetensors"

    def weights_path(self, key: TrialKey) -> Place:
        """Where a finished trial's weights are, if they were kept."""
        return self.checkpoints / f"{key.phase}-{key.number:04d}.safetensors"


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
    for path in (home / "studies").glob("*/study.json"):
        try:
            studies.append(Study(path.parent, _read_document(path)))
        except StudyError:
            continue
    return sorted(studies, key=lambda study: (study.document["created"], study.id))


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        SearchSpace.model_validate(document["space"])
        if document["study"] != path.parent.name or not document["created"] or not document["dataset"]:
            raise ValueError("a field does not fit")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: damaged ({error}); restore it from a copy.") from None
    return dict(document)
