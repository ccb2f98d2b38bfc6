"""Running a study: the composition root."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.app.pareto import front_of
from aiq_search.app.registry import publish_end, registered
from aiq_search.app.shared_storage import check_reachable, chosen_storage
from aiq_search.cluster import check_address, connected
from aiq_search.errors import AiqError, InputError, NothingFeasibleError, StudyError
from aiq_search.search.warm_start import check_same_question, learn_from
from aiq_search.space import SearchSpace, load_space
from aiq_search.study import Champion, ParetoFront, Study, StudyListener, TrialRecord
from aiq_search.study.differences import differences
from aiq_search.study.document import Ended
from aiq_search.study.ended import end_of
from aiq_search.study.home import aiq_home

if TYPE_CHECKING:
    import pandas as pd
    import ray
    from ray import tune

    from aiq_search.datasets import Dataset
    from aiq_search.search.driver import StudyDriver
    from aiq_search.tracking import MlflowListener, Undelivered

__all__ = ["SearchResult", "failure_of", "load_data", "prepare_space", "resume_search", "run_search"]

# How long MLflow may take over what waits for it, in seconds: at the end, where it does not answer and where
# it is only slow (a champion may be large, or far to go), and when the user wants to go.
_DELIVERY_SECONDS = 30.0
_AT_WORK_SECONDS = 300.0
_JOB_SECONDS = 600.0  # nobody waits at a terminal for a job, and who reads it elsewhere has MLflow alone
_HURRIED_SECONDS = 10.0

_log = logging.getLogger("aiq_search.search")


@dataclass(frozen=True)
class SearchResult:
    """What a search brought.

    Attributes:
        study: The study, to look further.
        champion: The chosen configuration; None where nothing is feasible.
        reason: finished, interrupted or failed.
        message: A sentence, where there is no champion or the search stopped by itself.
        undelivered: What MLflow has not received.
        notes: Sentences about what was repaired or left out on the way.
    """

    study: Study
    champion: Champion | None
    reason: str
    message: str | None = None
    undelivered: Undelivered | None = None
    notes: tuple[str, ...] = ()
    signal: int | None = None

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial."""
        return self.study.records()

    def pareto_front(self) -> ParetoFront:
        """The trials that none beats in every objective; of accuracy and efficiency where there is one."""
        return front_of(self.study)

    @property
    def trials(self) -> pd.DataFrame:
        """Every trial as a row: name, state, value, metrics, parameters."""
        import pandas as pd

        from aiq_search.app.look import trial_rows

        return pd.DataFrame(trial_rows(self.study))


@dataclass
class _Run:
    """What a study is run with."""

    study: Study
    dataset: Dataset
    tracking_uri: str
    address: str | None
    listeners: Sequence[StudyListener]
    notes: list[str] = field(default_factory=list)
    data_dir: Path | None = None
    trainable: Callable[[ray.ObjectRef[Dataset], int, float], type[tune.Trainable]] | None = None
    storage: str | None = None  # where checkpoints are to lie from now on
    before: int | None = None  # the budget that was raised: there are more trials to choose finalists from


def prepare_space(
    source: str | Path | Mapping[str, Any] | SearchSpace, overrides: Sequence[str] = ()
) -> SearchSpace:
    """Read a search space and check its names.

    Raises:
        SpaceError: Something in it is wrong.
    """
    from aiq_search.search.check import check_names

    space = load_space(Path(source) if isinstance(source, str) else source, overrides)
    check_names(space)
    return space


def load_data(space: SearchSpace, data_dir: Path | None = None) -> Dataset:
    """Load a space's data, and check that its narrowest and widest network can be built for them.

    What to know of the data (rare classes) is logged as a warning.

    Raises:
        InputError: The data are missing or damaged, or do not fit the networks.
    """
    from aiq_search.datasets import load_dataset
    from aiq_search.search.check import check_networks

    dataset = load_dataset(space.dataset, data_dir)
    check_networks(space, dataset.input_shape, len(dataset.classes))
    for warning in dataset.warnings:
        _log.warning(warning)
    return dataset


def run_search(
    source: str | Path | Mapping[str, Any] | SearchSpace,
    *,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    study_id: str | None = None,
    study_storage: str | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    data_dir: Path | None = None,
    address: str | None = None,
    home: Path | None = None,
    warm_start: Sequence[str] = (),
    listeners: Iterable[StudyListener] = (),
    trainable: Callable[[ray.ObjectRef[Dataset], int, float], type[tune.Trainable]] | None = None,
) -> SearchResult:
    """Run a new study to its end.

    Args:
        source: A search-space file, a document of that form, or a ``SearchSpace``.
        overrides: Edits of the form ``dotted.key=value``.
        trials: Number of configurations, in place of the file's.
        study_id: The study's id; by default ``<space>-<time>-<4 hex>``.
        study_storage: URL of a database for the trials; by default a journal in the study's folder.
        storage: Where checkpoints and weights lie: a path that every node reaches, or
            ``s3://bucket/prefix``; by default the study's folder, for a cluster of one node.
        tracking_uri: MLflow's store; by default ``MLFLOW_TRACKING_URI``, or ``./mlflow.db``.
        data_dir: Folder of the data files.
        address: A Ray cluster that this machine is a node of; by default one is started here.
        home: AIQ_HOME.
        warm_start: Earlier studies of the same space (ids or names) that the sampler learns from.
        listeners: Told of every event.
        trainable: Makes, of the data and a trial's CPUs and GPUs, the Ray Tune Trainable that answers
            assignments with reports; by default the one that trains.

    Returns:
        The study, its champion and how it ended.

    Raises:
        InputError: The space, the data or an argument is wrong.
        AiqError: Ray cannot be started.
    """
    from aiq_search.search.driver import StudyDriver
    from aiq_search.search.samplers import constraints_note
    from aiq_search.tracking import check_tracking_uri, default_tracking_uri

    check_address(address)
    uri = check_tracking_uri(tracking_uri or default_tracking_uri())
    if trials is not None:
        overrides = [*overrides, f"search.trials={trials}"]
    space = prepare_space(source, overrides)
    StudyDriver.check(space)
    dataset = load_data(space, data_dir)
    place = chosen_storage(storage)
    home = home or aiq_home()
    earlier = [Study.find(home, name) for name in warm_start]
    for known in earlier:
        check_same_question(space, known)
    try:
        study = Study.create(
            home,
            space,
            dataset.description(),
            study_id,
            trials_url=study_storage,
            checkpoint_place=place,
            data_dir=None if data_dir is None else data_dir.resolve(),
            warm_start=[known.id for known in earlier],
        )
    except OSError as error:
        raise AiqError(f"{home}: no study can be made there ({error.strerror}); set AIQ_HOME.") from None
    notes = [*dataset.warnings, *filter(None, [constraints_note(space)])]
    notes += [f"{learn_from(study, known)} trials of study {known.id} are learnt from." for known in earlier]
    return _run(_Run(study, dataset, uri, address, list(listeners), notes, data_dir, trainable))


def resume_search(
    name: str,
    *,
    source: Path | None = None,
    trials: int | None = None,
    study_storage: str | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    data_dir: Path | None = None,
    address: str | None = None,
    home: Path | None = None,
    listeners: Iterable[StudyListener] = (),
) -> SearchResult:
    """Continue a study where it stands: finished trials are kept, interrupted ones go on.

    Args:
        name: Its id, or its space's name for the newest.
        source: The search-space file again; refused where it searches something else.
        trials: A new number of configurations in all.
        study_storage: URL of the database of a study that was begun on another machine: its folder is
            made anew here where it is missing.
        storage: Another place for checkpoints and weights; what there is moves with the study.
        tracking_uri: MLflow's store; by default the study's.
        data_dir: Folder of the data files; by default the study's.
        address: A Ray cluster that this machine is a node of.
        home: AIQ_HOME.
        listeners: Told of every event.

    Returns:
        The study, its champion and how it ended.

    Raises:
        StudyError: There is no such study, it is held by another driver, or what it was begun with
            has changed.
    """
    from aiq_search.datasets import load_dataset

    check_address(address)
    storage = chosen_storage(storage)
    study = _find_or_fetch(home or aiq_home(), name, study_storage)
    check_reachable(study.files)
    if source is not None:
        _check_same_space(study, prepare_space(source))
    uri = study.tracking_uri(tracking_uri)
    before = None
    if trials is not None:
        before = study.space.search.trials if trials > study.space.search.trials else None
        study = study.extended(trials)
    if before is None and study.complete:
        return _deliver_again(study, uri, data_dir)
    dataset = load_dataset(study.space.dataset, data_dir or study.data_dir)
    expected = study.document.dataset.digest
    if dataset.digest != expected:
        raise StudyError(
            f"study {study.id} was begun on other data: expected {study.space.dataset.name} with digest "
            f"{expected[:12]}…, but found {dataset.digest[:12]}…; restore the data, or start a new study."
        )
    return _run(
        _Run(study, dataset, uri, address, list(listeners), data_dir=data_dir, storage=storage, before=before)
    )


def _deliver_again(study: Study, uri: str, data_dir: Path | None) -> SearchResult:
    """A study that is finished: what MLflow lacks of it, since it was away or the end was cut off."""
    from aiq_search.tracking import MlflowListener, reconcile
    from aiq_search.tracking.outbox import ChampionExported

    champion, message = None, None
    try:
        champion = study.champion()
    except NothingFeasibleError as error:
        message = str(error)
    notes = ["finished already: nothing is left to train."]
    with study.held():
        tracker = MlflowListener(study.directory, uri)
        try:
            if not tracker.outbox.history(ChampionExported):
                reconcile(study, tracker)
                tracker.on_event(end_of(study))
                notes += publish_end(study, tracker, data_dir)
        finally:
            undelivered = tracker.close(_DELIVERY_SECONDS, _AT_WORK_SECONDS)
        notes += filter(None, [registered(study)])
    return SearchResult(study, champion, "finished", message, undelivered=undelivered, notes=tuple(notes))


def _find_or_fetch(home: Path, name: str, study_storage: str | None) -> Study:
    """The study of this machine, or else of the database."""
    try:
        return Study.find(home, name)
    except StudyError:
        if study_storage is None or (home / "studies" / name / "study.json").exists():
            raise
    return Study.fetch(home, name, study_storage)


def _check_same_space(study: Study, space: SearchSpace) -> None:
    if space.fingerprint == study.document.fingerprint:
        return
    changed = differences(study.space.fingerprinted, space.fingerprinted)
    raise StudyError(
        f"study {study.id} searches another space (fingerprint {study.document.fingerprint}, the file's "
        f"is {space.fingerprint}). The study's value -> the file's:\n  "
        + "\n  ".join(changed)
        + "\nStart a new study with the file, or resume without it."
    )


def _run(run: _Run) -> SearchResult:
    """Hold the study, wire the rooms, and run."""
    from aiq_search.app.signals import draining_on_signals
    from aiq_search.search.driver import StudyDriver
    from aiq_search.tracking import MlflowListener

    study = run.study
    with study.held():
        run.notes += study.repair()
        if run.storage is not None:
            study = run.study = _moved(study, run.storage)
        _reopen(study, run.tracking_uri)
        tracker = MlflowListener(study.directory, run.tracking_uri, bundler="aiq_search.app.best_bundle")
        driver = StudyDriver(study, [*run.listeners, tracker])
        with draining_on_signals(driver) as signals:
            return _carry_out(run, driver, tracker, signals)


def _carry_out(
    run: _Run, driver: StudyDriver, tracker: MlflowListener, signals: Sequence[int]
) -> SearchResult:
    """Train, then let go of the study and see to it that MLflow has it; signals drain it all the while."""
    from aiq_search.tracking import reconcile

    study = run.study
    champion: Champion | None = None
    reason: Ended | None = None
    patience, at_work = _JOB_SECONDS if os.environ.get("AIQ_JOB") else _DELIVERY_SECONDS, _AT_WORK_SECONDS
    try:
        reconcile(study, tracker)
        driver.begin()
        train(run, driver, tracker.tracking_uri)
        reason = "failed" if driver.message and not signals else None
    except BaseException as error:
        reason = "failed"
        trouble = storage_trouble(error, study.id)
        driver.message = driver.message or (str(trouble) if trouble else f"{type(error).__name__}: {error}")
        if trouble is not None:
            # What cannot be written here cannot be delivered either.
            patience, at_work = _HURRIED_SECONDS, 0.0
            raise trouble from None
        raise
    finally:
        champion, late = _end(driver, study, reason)
        if driver.finished and not signals and reason is None and late is None:
            run.notes += publish_end(study, tracker, run.data_dir)
        if signals:
            undelivered = tracker.close(_HURRIED_SECONDS)
        else:
            undelivered = tracker.close(patience, at_work, hurried=lambda: bool(signals))
        run.notes += filter(None, [registered(study)])
    if late is not None:
        raise late
    return SearchResult(
        study=study,
        champion=champion,
        reason=reason or ("finished" if driver.finished else "interrupted"),
        message=driver.message,
        undelivered=undelivered,
        notes=tuple(run.notes),
        signal=signals[0] if signals and not driver.finished else None,
    )


def _end(driver: StudyDriver, study: Study, reason: Ended | None) -> tuple[Champion | None, AiqError | None]:
    """Let go of a study; its champion, and why the end could not be written: what went before is whole."""
    try:
        champion = driver.end(reason)
        study.mark_ended(reason or ("finished" if driver.finished else "interrupted"))
    except StudyError as error:  # another driver has it by now
        return None, error
    except Exception as error:
        trouble = storage_trouble(error, study.id)
        if trouble is None:
            raise
        return None, trouble
    return champion, None


def train(run: _Run, driver: StudyDriver, tracking_uri: str) -> None:
    """Be connected to Ray, check its nodes, and run the study there."""
    from aiq_search.app.preflight import check_cluster, mlflow_trouble

    trouble = mlflow_trouble(tracking_uri)
    if trouble is not None:
        _log.warning(trouble)
    with connected(run.study.home, run.address):
        import ray

        from aiq_search.search.runners.ray_tune import run_on_ray
        from aiq_search.worker.trainable import training_trainable

        data = ray.put(run.dataset)
        check_cluster(run.study, run.dataset, data)
        make = run.trainable or training_trainable
        resources = run.study.space.resources
        trainable = make(data, resources.cpu, resources.gpu)
        run_on_ray(driver, trainable, run.study.files / "tune")


def storage_trouble(error: BaseException, study: str) -> AiqError | None:
    """The full disk or lost database that an exception came from, as a sentence; None for others."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    step: BaseException | None = error
    while step is not None:
        if isinstance(step, OSError) and step.errno in (errno.ENOSPC, errno.EDQUOT):
            return AiqError(
                f"the disk is full ({step.filename or 'the study could not be written'}): every finished "
                f"trial is kept; free some space, then go on with `aiq resume {study}`."
            )
        if isinstance(step, StorageInternalError | SQLAlchemyError):
            said = str(step.__cause__ or step).strip().splitlines()[0]
            return AiqError(
                f"the study's database does not answer ({said}): every finished trial is kept; when it is "
                f"back, go on with `aiq resume {study}`."
            )
        step = step.__cause__ or step.__context__
    return None


def _moved(study: Study, storage: str) -> Study:
    try:
        return study.moved(storage)
    except OSError as error:
        raise InputError(
            f"--storage {storage}: the study's checkpoints cannot be moved there "
            f"({error.strerror or error}); nothing was changed."
        ) from None


def _reopen(study: Study, tracking_uri: str) -> None:
    try:
        study.reopen(tracking_uri)
    except OSError as error:
        raise storage_trouble(error, study.id) or AiqError(
            f"{study.directory}: cannot be written ({error.strerror})."
        ) from None


def failure_of(result: SearchResult) -> AiqError | None:
    """The error that a finished search amounts to, if it does."""
    if result.reason == "failed":
        return AiqError(result.message or "the search failed.")
    if result.reason == "finished" and result.champion is None:
        return NothingFeasibleError(result.message or "nothing feasible.")
    return None
