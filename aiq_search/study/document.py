"""study.json: what a study searches, on which data, and where its parts are."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.space import SearchSpace
from aiq_search.space.errors import dotted, shown
from aiq_search.study.provenance import Provenance
from aiq_search.training.capture import CaptureField, CaptureOptions

__all__ = [
    "FILE",
    "SCHEMA_VERSION",
    "DatasetDescription",
    "Ended",
    "StudyDocument",
    "StudyOptions",
    "check_study_id",
    "is_study_id",
    "new_study_id",
]

# Name of the document in a study's folder, and with its run in MLflow.
FILE = "study.json"

# Version of its form; a later version's study is refused.
SCHEMA_VERSION = 1

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")

# How a driver left a study.
Ended = Literal["finished", "interrupted", "failed"]

# Unix time up to the year 9999: beyond that no calendar can show it.
_UnixTime = Annotated[float, Field(strict=True, ge=0, le=253402300799)]


class DatasetDescription(BaseModel):
    """The data of a study.

    Attributes:
        name: As the space names it.
        digest: SHA-256 over all splits.
        train: Number of training examples.
        validation: Number of validation examples.
        test: Number of test examples.
        input_shape: Shape of one example.
        input_dtype: Its element type.
        classes: Names of the classes.
        class_counts: Number of examples of each class, by split.
        warnings: What to know of the data before the numbers are read, such as rare classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    train: int = Field(ge=0)
    validation: int = Field(ge=0)
    test: int = Field(ge=0)
    input_shape: tuple[int, ...]
    input_dtype: str
    classes: tuple[str, ...]
    class_counts: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def majority(self, split: str) -> float | None:
        """Share of the commonest class of a split: the accuracy of always naming it; None if not known."""
        counts = self.class_counts.get(split, ())
        return max(counts) / sum(counts) if sum(counts) else None


class StudyOptions(TypedDict, total=False):
    """What a new study may be given besides its space and data.

    Attributes:
        provenance: Where it comes from; by default this process.
        trials_url: URL of a database for the trials; by default a journal in the study's folder.
        checkpoint_place: A place for checkpoints that every node reaches; by default the study's folder.
        data_dir: Folder of the data files.
        warm_start: Ids of the studies that the sampler learns from.
    """

    provenance: Provenance
    trials_url: str | None
    checkpoint_place: str | None
    data_dir: Path | None
    warm_start: Sequence[str]


class StudyDocument(BaseModel):
    """The content of study.json.

    Attributes:
        schema_version: Version of this form.
        study: The study's id.
        space: The search space as used, defaults included.
        fingerprint: Of the space.
        seed: ``search.seed`` of the space.
        beta: ``objective.beta`` of the space.
        capture: ``objective.capture`` of the space.
        created: Unix time, in seconds.
        dataset: The data.
        provenance: Command, versions, git commit.
        trials_url: The database with the trials; None for a journal in the study's folder.
        checkpoint_place: Where checkpoints and weights are; None for the study's folder.
        tracking_uri: MLflow's store, without credentials; None before a driver has run the study.
        data_dir: Folder of the data files, where one was given.
        warm_start: Ids of the studies that the sampler learned from.
        ended: How the last driver left the study; None while one runs it, or died.
        closed: When the command that ran it ended, after publishing; None while it runs, or if it died.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    study: str
    space: SearchSpace
    fingerprint: str
    seed: int
    beta: float
    capture: CaptureField = CaptureOptions()
    created: _UnixTime
    dataset: DatasetDescription
    provenance: Provenance
    trials_url: str | None = None
    checkpoint_place: str | None = None
    tracking_uri: str | None = None
    data_dir: Path | None = None
    warm_start: tuple[str, ...] = ()
    ended: Ended | None = None
    closed: _UnixTime | None = None

    @model_validator(mode="after")
    def _agrees_with_its_space(self) -> Self:
        objective = self.space.objective
        for field, expected in (
            ("seed", self.space.search.seed),
            ("beta", objective.beta),
            ("capture", objective.capture),
        ):
            if getattr(self, field) != expected:
                raise ValueError(f"{field}: expected that of the space, {expected}")
        return self

    @classmethod
    def new(
        cls,
        space: SearchSpace,
        dataset: DatasetDescription | Mapping[str, Any],
        study_id: str | None = None,
        **options: Unpack[StudyOptions],
    ) -> StudyDocument:
        """The document of a new study.

        Args:
            space: What is searched.
            dataset: The data, as ``Dataset.description`` gives them.
            study_id: The study's id; by default that of ``new_study_id``.
            options: See ``StudyOptions``.

        Raises:
            StudyError: The id is malformed.
        """
        return cls.model_validate(
            {
                "study": check_study_id(study_id) if study_id is not None else new_study_id(space),
                "space": space,
                "fingerprint": space.fingerprint,
                "seed": space.search.seed,
                "beta": space.objective.beta,
                "capture": space.objective.capture,
                "created": time.time(),
                "dataset": DatasetDescription.model_validate(dataset),
                "provenance": options.get("provenance") or Provenance.of_this_process(),
                **options,
            }
        )

    @classmethod
    def parse(cls, content: bytes | str | Mapping[str, Any], source: str | Path) -> StudyDocument:
        """Read a document.

        Args:
            content: JSON, as text or parsed.
            source: Where it was found, for messages.

        Raises:
            StudyError: It was written by a later version of aiq_search, or is damaged.
        """
        text = json.dumps(content) if isinstance(content, Mapping) else content
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            version = _version_of(text)
            if version is not None and version > SCHEMA_VERSION:
                raise StudyError(
                    f"{source}: written by a later version of aiq_search (schema_version {version}, this one "
                    f"reads {SCHEMA_VERSION}); upgrade aiq_search."
                ) from None
            problem = error.errors(include_url=False, include_input=False)[0]
            message = problem["msg"].removeprefix("Value error, ").rstrip(".")
            message = shown(message, quoted=False, longest=300)
            reason = f"{dotted(problem['loc'])}: {message}" if problem["loc"] else message
        except (ValueError, TypeError, OverflowError, RecursionError, AiqError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StudyError(f"{source}: damaged ({reason}); restore it from a copy.")

    @classmethod
    def read(cls, path: Path) -> StudyDocument:
        """Read a study's document from its folder.

        Raises:
            StudyError: It cannot be read, was written by a later version, or is damaged.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StudyError(f"{path}: cannot be read ({error.strerror}); give yourself the right.") from None
        document = cls.parse(content, path)
        if document.study != path.parent.name:
            raise StudyError(
                f"{path}: damaged (study: expected {path.parent.name}, the folder's name, but got "
                f"{shown(document.study)}); restore it from a copy."
            )
        return document

    def write(self, path: Path) -> None:
        """Write the document, for its owner alone: a database's URL may hold a password.

        The file is the whole new document or the old one, whenever the process dies.
        """
        temporary = path.with_suffix(".part")
        temporary.touch(mode=0o600)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(self.as_json(), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def as_json(self, exclude: set[str] | None = None) -> dict[str, Any]:
        """The document in JSON types, without the fields ``exclude``."""
        return self.model_dump(mode="json", exclude=exclude)

    def extended(self, trials: int) -> StudyDocument:
        """The document with another budget of exploring trials; a race gets longer with it.

        Raises:
            InputError: ``trials`` is not a possible budget.
        """
        space = self.space.document()
        space["search"]["trials"] = trials
        longer = self.space.confirm.runs * trials / self.space.search.trials
        space["confirm"]["runs"] = max(self.space.confirm.runs, math.ceil(longer))
        try:
            return self.changed(space=SearchSpace.model_validate(space))
        except ValidationError as error:
            raise InputError(f"search.trials: {trials}: {error.errors()[0]['msg']}.") from None

    def changed(self, **fields: Any) -> StudyDocument:  # noqa: ANN401
        """The document with other values of some fields."""
        return self.model_copy(update=fields)


def new_study_id(space: SearchSpace) -> str:
    """An id that no other study has: ``<space>-<YYYYMMDD-HHMMSS>-<4 hex>``."""
    return f"{space.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def check_study_id(study_id: str) -> str:
    """Return an id that the user gave.

    Raises:
        StudyError: It is malformed.
    """
    if not is_study_id(study_id):
        raise StudyError(
            f"--study {study_id!r}: expected letters, digits, '.', '_' and '-', beginning with a letter or "
            "digit."
        )
    return study_id


def is_study_id(text: str) -> bool:
    """Whether ``text`` can be a study's id, and so the name of its folder."""
    return _ID.fullmatch(text) is not None


class _Version(BaseModel):
    schema_version: int


def _version_of(text: bytes | str) -> int | None:
    try:
        return _Version.model_validate_json(text).schema_version
    except ValueError:
        return None
