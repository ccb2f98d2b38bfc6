"""Before a search: the space is read, the data are loaded, and the study is created or found."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from aiq_search.app.options import RunOptions
from aiq_search.cluster import Connection, check_address
from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.places import chosen_storage
from aiq_search.space import SearchSpace, load_space
from aiq_search.study import Study
from aiq_search.study.differences import differences
from aiq_search.training.kernel_cache import start_compiling
from aiq_search.user_code import NO_CODE, CodePolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiq_search.datasets import Dataset
    from aiq_search.search.machine import Machine

__all__ = [
    "PreparedStudy",
    "SpaceSource",
    "StudyData",
    "earlier_studies",
    "find_or_fetch",
    "load_data",
    "prepare_existing",
    "prepare_new",
    "prepare_resumed",
    "prepare_space",
    "with_imported",
]

_log = logging.getLogger("aiq_search.search")

SpaceSource: TypeAlias = str | Path | Mapping[str, Any] | SearchSpace


class StudyData:
    """The data set of a study, loaded once, when it is first needed.

    Args:
        study: The study.
        data_dir: Folder of the data files; by default the study's.
        dataset: The data set, where it is loaded already.
        code: Which code the study may name; none by default.
    """

    def __init__(
        self,
        study: Study,
        data_dir: Path | None = None,
        dataset: Dataset | None = None,
        code: CodePolicy = NO_CODE,
    ) -> None:
        self.code = code
        self._study = study
        self._data_dir = data_dir or study.data_dir
        self._dataset = dataset

    def load(self) -> Dataset:
        """The data set.

        Raises:
            InputError: The data are missing or damaged.
            StudyError: They are not those that the study was started on.
        """
        from aiq_search.datasets import load_dataset

        if self._dataset is None:
            dataset = load_dataset(self._study.space.dataset, self._data_dir, self.code)
            expected = self._study.document.dataset.digest
            if dataset.digest != expected:
                raise StudyError(
                    f"study {self._study.id} was started on other data: expected {dataset.name} with digest "
                    f"{expected[:12]}…, but found {dataset.digest[:12]}…; restore the data, or start a new "
                    "study."
                )
            self._dataset = dataset
        return self._dataset


@dataclass
class PreparedStudy:
    """A study that is ready to run.

    Attributes:
        study: The study; its space has the number of trials that was asked for.
        data: Its data.
        options: What it is run with.
        tracking_uri: MLflow's store.
        place: Where its checkpoints are to be from now on; None where they stay.
        complete: Whether nothing is left to train.
        notes: Sentences for the user about what was decided on the way.
        connection: To Ray, which starts while the study is prepared; None where it starts later.
    """

    study: Study
    data: StudyData
    options: RunOptions
    tracking_uri: str
    place: str | None = None
    complete: bool = False
    notes: list[str] = field(default_factory=list)
    connection: Connection | None = None


def prepare_space(
    source: SpaceSource, overrides: Sequence[str] = (), code: CodePolicy = NO_CODE
) -> SearchSpace:
    """Read a search space and check everything that can be checked without its data.

    Args:
        source: A search-space file, a document of that form, or a ``SearchSpace``.
        overrides: Edits of the form ``dotted.key=value``.
        code: Which code it may name; by default none is imported, nor checked.

    Raises:
        SpaceError: Something in it is wrong.
    """
    space = load_space(source, overrides)  # before torch, which the checks import
    from aiq_search.search.check import check_space

    check_space(space, code)
    return space


def load_data(
    space: SearchSpace,
    data_dir: Path | None = None,
    code: CodePolicy = NO_CODE,
    machine: Machine | None = None,
) -> Dataset:
    """Load the data of a space, and try its narrowest and its widest network on a few samples.

    Args:
        space: The space.
        data_dir: Folder of the data files.
        code: Which code it may name.
        machine: Where trials run; None where that is another machine.

    Raises:
        InputError: The data are missing or damaged, or a network cannot be trained on them.
    """
    from aiq_search.search import preflight

    dataset = preflight.load_data(space, data_dir, code)
    for warning in dataset.warnings:
        _log.warning(warning)
    preflight.preflight(space, dataset, code, machine)
    return dataset


def prepare_new(
    source: SpaceSource, options: RunOptions, begin: Callable[[], None] | None = None
) -> PreparedStudy:
    """Create a study, once everything that can be checked without running a trial has been checked.

    Args:
        source: A search-space file, a document of that form, or a ``SearchSpace``.
        options: What it is run with.
        begin: Begins what can start while the rest is checked; called once the file is in order.

    Raises:
        InputError: The space, the data or an option is wrong.
    """
    from aiq_search.search.samplers import constraints_note
    from aiq_search.search.warm_start import learn_from
    from aiq_search.tracking import check_tracking_uri, default_tracking_uri

    if options.runner == "ray":
        check_address(options.address)
    tracking_uri = check_tracking_uri(options.tracking_uri or default_tracking_uri())
    space, code = load_space(source, options.edits), options.code  # before torch, which the checks import
    options, imported = with_imported(space, options)
    if imported:
        space = load_space(source, options.edits)
    if begin is not None:
        begin()
    from aiq_search.search.check import check_space

    machine = options.machine
    check_space(space, code, machine)
    if space.training.engine != "torch" and not space.resources.gpu:
        start_compiling()
    dataset = load_data(space, options.data_dir, code, machine)
    place = chosen_storage(options.storage)
    earlier = earlier_studies(space, options)
    try:
        study = Study.create(
            options.home,
            space,
            dataset.description(),
            options.study_id,
            trials_url=options.study_storage,
            checkpoint_place=place,
            data_dir=None if options.data_dir is None else options.data_dir.resolve(),
            warm_start=[each.id for each in earlier],
        )
    except OSError as error:
        raise AiqError(
            f"{options.home}: no study can be created there ({error.strerror}); set AIQ_HOME."
        ) from None
    notes = [*imported, *filter(None, [constraints_note(space)])]
    notes += [f"Warm start: using {learn_from(study, each)} trials from study {each.id}." for each in earlier]
    data = StudyData(study, dataset=dataset, code=code)
    return PreparedStudy(study, data, options, tracking_uri, notes=notes)


def earlier_studies(space: SearchSpace, options: RunOptions) -> list[Study]:
    """The studies whose trials the sampler learns from.

    Raises:
        InputError: There is no such study, or it asked something else.
    """
    from aiq_search.search.warm_start import check_same_question

    earlier = [Study.open(name, options.home) for name in options.warm_start]
    for each in earlier:
        check_same_question(space, each)
    return earlier


def with_imported(space: SearchSpace, options: RunOptions) -> tuple[RunOptions, list[str]]:
    """Options that enqueue what they name of Optuna storages to start from.

    Args:
        space: The space as it is edited so far.
        options: The options.

    Returns:
        The options, without storages, and a sentence for each.

    Raises:
        InputError: A storage cannot be read, or nothing of it belongs to the space.
    """
    from aiq_search.search.optuna_import import import_configurations, is_optuna_storage

    storages = [name for name in options.warm_start if is_optuna_storage(name)]
    if not storages:
        return options, []
    imported = [import_configurations(space, storage) for storage in storages]
    points = [*space.enqueue, *(point for each in imported for point in each.points)]
    return replace(
        options,
        warm_start=[name for name in options.warm_start if name not in storages],
        overrides=[*options.overrides, f"enqueue={json.dumps(points)}"],
    ), [each.note for each in imported]


def prepare_resumed(
    name: str, options: RunOptions, source: Path | None = None, begin: Callable[[], None] | None = None
) -> PreparedStudy:
    """Find a study to continue: here, or in the database that ``study_storage`` names.

    Args:
        name: Its id, or its space's name for the newest.
        options: What it is run with.
        source: Its search-space file; refused where that searches something else.
        begin: As in ``prepare_new``.

    Raises:
        StudyError: There is no such study, or what it was started with has changed.
        InputError: An option is wrong.
    """
    _check_for_existing(options)
    study = find_or_fetch(name, options)
    if source is not None:
        _check_same_space(study, prepare_space(source))
    return prepare_existing(study, options, begin)


def prepare_existing(
    study: Study, options: RunOptions, begin: Callable[[], None] | None = None
) -> PreparedStudy:
    """Make a study ready to continue.

    Args:
        study: The study.
        options: What it is run with.
        begin: As in ``prepare_new``.

    Raises:
        StudyError: The data have changed.
        InputError: Its storage cannot be used, the number of trials is not possible, or the study names code
            that may not be imported.
    """
    if options.runner == "ray":
        check_address(options.address)
    place = chosen_storage(options.storage)
    study.files.check_reachable()
    tracking_uri = study.tracking_uri(options.tracking_uri)
    data = StudyData(study, options.data_dir, code=options.code)
    complete, budget = study.complete, study.space.search.trials
    if options.trials is not None:
        study = study.extended(options.trials)
    complete = complete and study.space.search.trials <= budget
    if not complete:
        if begin is not None:
            begin()
        from aiq_search.search.check import check_names  # with torch

        check_names(study.space, data.code)
        data.load()  # what is wrong with the data is found before Ray is started
    notes = ["already finished; nothing left to train."] if complete else []
    return PreparedStudy(study, data, options, tracking_uri, place, complete, notes)


def _check_for_existing(options: RunOptions) -> None:
    """Raise InputError for an option that only a new study takes."""
    values = {
        "overrides": options.overrides,
        "study_id": options.study_id,
        "warm_start": options.warm_start,
    }
    unfit = [name for name, value in values.items() if value]
    if unfit:
        raise InputError(
            f"a study keeps its space and its id: expected no {', '.join(unfit)}; leave that out, or start "
            "a new study."
        )


def find_or_fetch(name: str, options: RunOptions) -> Study:
    """The study of that name on this machine, or else in the database that ``study_storage`` names.

    Raises:
        StudyError: Neither has it.
    """
    try:
        return Study.open(name, options.home)
    except StudyError:
        if options.study_storage is None or (options.home / "studies" / name / "study.json").exists():
            raise
    return Study.fetch(options.home, name, options.study_storage)


def _check_same_space(study: Study, space: SearchSpace) -> None:
    fingerprint = study.document.fingerprint
    if space.fingerprint == fingerprint:
        return
    changed = differences(study.space.fingerprinted, space.fingerprinted)
    raise StudyError(
        f"study {study.id} searches another space (fingerprint {fingerprint}, the file's is "
        f"{space.fingerprint}). The study's value -> the file's:\n  "
        + "\n  ".join(changed)
        + "\nStart a new study with the file, or resume without it."
    )
