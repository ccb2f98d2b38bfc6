"""Running a study: prepare it, train its trials, publish what it found."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.app import publish as publishing
from aiq_search.app.ending import End, delivering, ending, translating_storage_errors
from aiq_search.app.options import RunOptions
from aiq_search.app.prepare import PreparedStudy, SpaceSource, prepare_new, prepare_resumed
from aiq_search.app.publish import Preparation, Publish
from aiq_search.app.result import Announce, ChampionAnnouncer, SearchResult
from aiq_search.cluster import Connection
from aiq_search.errors import AiqError, InputError, NothingFeasibleError
from aiq_search.study import (
    Study,
    StudyListener,
)
from aiq_search.study.ended import end_of

if TYPE_CHECKING:
    from aiq_search.search.driver import StudyDriver
    from aiq_search.tracking import MlflowListener
    from aiq_search.worker import MakeWorker

__all__ = ["resume_search", "run_prepared", "run_search", "showing"]

_log = logging.getLogger("aiq_search.search")


def run_search(
    source: SpaceSource,
    options: RunOptions | None = None,
    *,
    listeners: Iterable[StudyListener] = (),
    publish: Publish | None = None,
    worker: MakeWorker | None = None,
    progress: bool | None = None,
    announce: Announce | None = None,
    **changes: Any,  # noqa: ANN401
) -> SearchResult:
    """Run a new study to its end.

    Args:
        source: A search-space file, a document of that form, or a ``SearchSpace``.
        options: What it is run with.
        listeners: Receive every event.
        publish: Gives MLflow what the study found; by default ``publish_end``.
        worker: Creates what answers assignments with reports; by default it trains.
        progress: Whether to show how the search proceeds: a live view in a notebook or on a terminal,
            elsewhere a line for each event on stderr. By default in a notebook and on a terminal only.
        announce: Is given the champion as soon as it is known, and the result once the study is over, before
            it is published; see ``SearchResult.final``.
        changes: Fields of ``RunOptions``, in place of those of ``options``.

    Returns:
        The study, its champion and how it ended.

    Raises:
        InputError: The space, the data or an option is wrong.
        AiqError: Ray cannot be started.
    """
    options = replace(options or RunOptions(), **changes)
    with (
        showing(progress, listeners, announce) as (heard, tell),
        Connection(options.home, options.address) as connection,
    ):
        prepared = prepare_new(source, options, _beginning(connection, options))
        prepared.connection = connection
        return run_prepared(prepared, listeners=heard, publish=publish, announce=tell, worker=worker)


def resume_search(
    name: str,
    options: RunOptions | None = None,
    *,
    source: Path | None = None,
    listeners: Iterable[StudyListener] = (),
    publish: Publish | None = None,
    progress: bool | None = None,
    announce: Announce | None = None,
    **changes: Any,  # noqa: ANN401
) -> SearchResult:
    """Continue a study: finished trials are kept, interrupted ones continue from their checkpoints.

    Of a study that has finished, MLflow receives what it lacks.

    Args:
        name: Its id, or its space's name for the newest.
        options: What it is run with; ``trials`` is a new number of configurations in all, ``study_storage``
            the database of a study that was started on another machine, ``storage`` a place that its
            checkpoints are moved to.
        source: Its search-space file; refused where that searches something else.
        listeners: Receive every event.
        publish: Gives MLflow what the study found; by default ``publish_end``.
        progress: See ``run_search``.
        announce: See ``run_search``.
        changes: Fields of ``RunOptions``, in place of those of ``options``.

    Returns:
        The study, its champion and how it ended.

    Raises:
        StudyError: There is no such study, another driver holds it, or what it was started with has changed.
        InputError: An option is wrong.
    """
    options = replace(options or RunOptions(), **changes)
    with (
        showing(progress, listeners, announce) as (heard, tell),
        Connection(options.home, options.address) as connection,
    ):
        prepared = prepare_resumed(name, options, source, _beginning(connection, options))
        prepared.connection = connection
        return run_prepared(prepared, listeners=heard, publish=publish, announce=tell)


def _beginning(connection: Connection, options: RunOptions) -> Callable[[], None] | None:
    """Begins, while the study is prepared, what its runner needs."""
    return connection.begin if options.runner == "ray" else None


@contextmanager
def showing(
    progress: bool | None, listeners: Iterable[StudyListener], announce: Announce | None = None
) -> Iterator[tuple[list[StudyListener], Announce | None]]:
    """Show how a search proceeds while the context lasts; see ``run_search``.

    Yields:
        The listeners, with the view if there is one, and ``announce``, for which the view makes way.
    """
    from aiq_search.terminal.notebook import NotebookView, in_notebook

    if progress is False or (progress is None and not sys.stderr.isatty() and not in_notebook()):
        yield list(listeners), announce
        return
    from aiq_search.terminal.text import stderr
    from aiq_search.terminal.view import search_view

    with NotebookView(publishes=True) if in_notebook() else search_view(stderr(), publishes=True) as view:

        def announce_aside(result: SearchResult) -> None:
            if announce is not None:
                with view.aside():
                    announce(result)

        yield [*listeners, view], announce_aside


def run_prepared(
    prepared: PreparedStudy,
    *,
    listeners: Iterable[StudyListener] = (),
    publish: Publish | None = None,
    announce: Announce | None = None,
    worker: MakeWorker | None = None,
) -> SearchResult:
    """Train what is left to train of a study, and publish what it found.

    Args:
        prepared: The study: new, interrupted or finished.
        listeners: Receive every event.
        publish: See ``run_search``.
        announce: See ``run_search``.
        worker: See ``run_search``.

    Returns:
        The study, its champion and how it ended.

    Raises:
        StudyError: Another driver holds the study.
        AiqError: Ray cannot be started, or the study cannot be written.
    """
    from aiq_search.app.signals import draining_on_signals
    from aiq_search.search.driver import StudyDriver
    from aiq_search.tracking import MlflowListener

    with prepared.study.held(), prepared.data.code.in_child_processes():
        study = _take_up(prepared)
        tracker = MlflowListener(study.directory, prepared.tracking_uri, bundler="aiq_search.app.bundles")
        # A driver of Ray's workers only waits for them.
        preparation = Preparation(publish is None and prepared.options.runner == "ray")
        chosen = ChampionAnnouncer(prepared, announce)
        driver = StudyDriver(study, [*listeners, tracker, preparation, chosen])
        with draining_on_signals(driver) as signals, delivering(tracker, study, signals) as delivery:
            if prepared.complete:
                end = _conclude(study, tracker)
            else:
                end = _search(prepared, driver, tracker, signals, worker)
            result = SearchResult(
                study=study,
                champion=end.champion,
                reason=end.reason,
                message=end.message,
                notes=tuple(prepared.notes),
                signal=signals[0] if signals and end.reason != "finished" else None,
            )
            notes = list(result.notes)
            try:
                if announce is not None:
                    announce(result)
            finally:  # MLflow receives it also where the terminal is gone
                if end.to_publish and not signals:
                    preparation.wait()
                    notes += (publish or publishing.publish_end)(study, tracker, prepared.data)
        if not prepared.complete:
            with suppress(OSError):  # only `aiq doctor` misses it
                study.mark_closed(time.time())
    notes += filter(None, [delivery.registered])
    return replace(result, undelivered=delivery.undelivered, notes=tuple(notes))


def _take_up(prepared: PreparedStudy) -> Study:
    """Repair a study, move its checkpoints if asked to, and write that it is not over. Hold it."""
    study = prepared.study
    prepared.notes += study.repair()
    if prepared.place is not None:
        try:
            study = prepared.study = study.moved(prepared.place)
        except OSError as error:
            raise InputError(
                f"--storage {prepared.place}: the study's checkpoints cannot be moved there "
                f"({error.strerror or error}); nothing was changed."
            ) from None
    if not prepared.complete:
        try:
            with translating_storage_errors(study):
                study.reopen(prepared.tracking_uri)
        except OSError as error:
            raise AiqError(f"{study.directory}: cannot be written ({error.strerror}).") from None
    return study


def _conclude(study: Study, tracker: MlflowListener) -> End:
    """The end of a study with nothing left to train; MLflow receives what it lacks."""
    from aiq_search.tracking import reconcile
    from aiq_search.tracking.letters import ChampionExported

    end = End("finished", to_publish=not tracker.outbox.history(ChampionExported))
    try:
        end.champion = study.champion()
    except NothingFeasibleError as error:
        end.message = str(error)
    if end.to_publish:
        reconcile(study, tracker)
        tracker.on_event(end_of(study))
    return end


def _search(
    prepared: PreparedStudy,
    driver: StudyDriver,
    tracker: MlflowListener,
    signals: Sequence[int],
    worker: MakeWorker | None,
) -> End:
    """Train until the study is finished or stopped."""
    from aiq_search.tracking import reconcile

    with ending(driver, signals) as end:
        reconcile(driver.study, tracker)
        driver.begin()
        train(prepared, driver, worker)
    return end


def train(prepared: PreparedStudy, driver: StudyDriver, worker: MakeWorker | None = None) -> None:
    """Have the driver's assignments trained, by the runner that the options name."""
    from aiq_search.tracking.health import mlflow_trouble
    from aiq_search.worker.worker import TrialWorker

    trouble = mlflow_trouble(prepared.tracking_uri)
    if trouble is not None:
        _log.warning(trouble)
    make: MakeWorker = worker or partial(TrialWorker, packages=prepared.data.code.packages)
    if prepared.options.runner == "in_process":
        _train_here(prepared, driver, make)
    else:
        _train_on_ray(prepared, driver, make)


def _train_here(prepared: PreparedStudy, driver: StudyDriver, make: MakeWorker) -> None:
    """Train in this process, one trial after the other."""
    import torch

    from aiq_search.search.runners.in_process import InProcessRunner

    dataset, needs, threads = prepared.data.load(), driver.space.resources, torch.get_num_threads()
    try:
        InProcessRunner(lambda: make(dataset, needs.cpu, needs.gpu)).run(driver)
    finally:
        torch.set_num_threads(threads)


def _train_on_ray(prepared: PreparedStudy, driver: StudyDriver, make: MakeWorker) -> None:
    """Connect to Ray, check its nodes, and train there."""
    from aiq_search.cluster.preflight import check_cluster, wait_for_workers

    study = driver.study
    with prepared.connection or Connection(study.home, prepared.options.address) as connection:
        connection.begin()
        from aiq_search.search.runners.ray_tune import RayRunner  # while Ray starts

        connection.wait(study.id)
        if connection.dashboard is not None:
            _log.info("Ray's dashboard, which asks for Ray's token: %s", connection.dashboard)
        import ray

        dataset = prepared.data.load()
        data = ray.put(dataset.for_this_machine() if connection.own else dataset)
        wait_for_workers(lambda: driver.draining)
        if driver.draining:
            return
        check_cluster(study, dataset, data, prepared.data.code)
        RayRunner(make, data, own=connection.own).run(driver)
