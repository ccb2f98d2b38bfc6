"""The folder of a study: study.json, and where its files are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.errors import InputError
from aiq_search.places import LocalPath, Place, place_of
from aiq_search.redaction import redact
from aiq_search.space import SearchSpace
from aiq_search.study.document import FILE, StudyDocument
from aiq_search.study.events import TrialKey
from aiq_search.study.home import default_tracking_uri
from aiq_search.study.lock import StudyLock
from aiq_search.user_code import NO_CODE, CodePolicy

if TYPE_CHECKING:
    from aiq_search.models import Architecture

__all__ = ["StudyFolder"]


class StudyFolder:
    """What study.json says of a study, and the places that follow from it.

    Args:
        directory: The folder.
        document: study.json.

    Attributes:
        directory: The folder.
    """

    def __init__(self, directory: Path, document: StudyDocument) -> None:
        self.directory = directory
        self._document = document

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
        return place_of(shared) / self.id if shared else LocalPath(self.directory.resolve())

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

    def architecture(self, params: Mapping[str, Any], code: CodePolicy = NO_CODE) -> Architecture:
        """The network of a configuration.

        Args:
            params: The configuration.
            code: Which code the study may name; none by default.
        """
        from aiq_search.models import Architecture  # torch: looking at a study must not wait for it

        dataset = self._document.dataset
        return Architecture(
            self.space.model.name,
            self.space.model_arguments(params),
            dataset.input_shape,
            len(dataset.classes),
            code,
        )

    @property
    def is_running(self) -> bool:
        """Whether a driver holds it now."""
        return StudyLock.is_held(self.directory / "lock")

    def leftovers(self) -> list[Place]:
        """Files that a killed process left half-written. Hold the study: else their writer may be alive."""
        places: list[Place] = list(LocalPath(self.directory).glob("*.part"))
        for pattern in ("*.part", ".probe-*"):
            places += self.checkpoints.glob(pattern)
        return places

    def _saved(self) -> StudyDocument:
        """study.json as it is on disk, where a larger budget (``extended``) is not written yet."""
        return StudyDocument.read(self.directory / FILE)

    def _write(self, document: StudyDocument) -> None:
        document.write(self.directory / FILE)
        self._document = document
