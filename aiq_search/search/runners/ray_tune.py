"""Runs a study on Ray Tune: a Searcher and a TrialScheduler that call the driver."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from aiq_search.errors import AiqError
from aiq_search.search.runners import DRAIN_SECONDS
from aiq_search.search.runners.ray_internals import (
    actor_id,
    actor_of,
    end_trials,
    error_file,
    is_saving,
    release_actors,
    waiting_workers,
)
from aiq_search.search.runners.ray_watch import ControlStoreLost, ControlStoreWatch, TrialWatch
from aiq_search.search.runners.reasons import death_in, storage_trouble_in, took_too_long
from aiq_search.study.events import TrialKey
from aiq_search.worker import Assignment, MakeWorker, Report
from aiq_search.worker.trainable import WorkerTrainable

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset
    from aiq_search.search.driver import StudyDriver

__all__ = ["TRIALS_PER_TUNER", "TUNE_ENVIRONMENT", "RayRunner"]

# Tune keeps every trial that it has seen: a fresh Tuner now and then bounds the driver's memory. Slots wait
# for the last trials of the old one: a large cluster gets so many rounds of trials from each.
TRIALS_PER_TUNER = 1000
_ROUNDS_PER_TUNER = 25

# Seconds for which Ray's control store may be out of reach, below Ray's own 60; of a cluster of our own less.
_PATIENCE, _PATIENCE_OWN = 45.0, 5.0

TUNE_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_STATE_REFRESH_PERIOD": "1000000",  # it asks the control store, and waits where that is gone
    "TUNE_WARN_THRESHOLD_S": "60",
}

_Result = TypeVar("_Result")


class RayRunner:
    """Runs a study on the Ray cluster that is connected.

    Args:
        make: Creates a worker, on the node of its trial.
        data: The ``Dataset`` in Ray's object store, which the trials of a node share.
        own: Whether it was started for this search: its workers have the environment of this process, and
            nobody restarts its control store.
    """

    def __init__(self, make: MakeWorker, data: ray.ObjectRef[Dataset], *, own: bool = False) -> None:
        self._make = make
        self._data = data
        self._own = own

    def run(self, driver: StudyDriver) -> None:
        """Run a study to its end, or until it is drained.

        Args:
            driver: The study's driver, begun.

        Raises:
            AiqError: Ray's control store is gone.
        """
        concurrency = concurrency_of(driver)
        os.environ.update(TUNE_ENVIRONMENT, TUNE_MAX_PENDING_TRIALS_PG=str(concurrency))
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the driver reports failures
        lost = (
            "Ray's control store died or cannot be reached: every finished trial is kept; continue with "
            f"`aiq resume {driver.study.id}`, once Ray runs."
        )
        address = str(ray.get_runtime_context().gcs_address)
        trainable, part = self._trainable(driver), 0
        patience = _PATIENCE_OWN if self._own else _PATIENCE
        workers = waiting_workers() if self._own else nullcontext()
        try:
            with workers, ControlStoreWatch(address, patience, lost) as store:
                while not (driver.finished or driver.draining):
                    _run_part(driver, trainable, f"part-{part}", concurrency, store)
                    part += 1
        except ControlStoreLost:
            raise AiqError(lost) from None
        with suppress(OSError):
            (driver.study.files / "tune").remove_tree()

    def _trainable(self, driver: StudyDriver) -> type[tune.Trainable]:
        needs = driver.space.resources
        trainable = tune.with_parameters(
            WorkerTrainable, make=self._make, dataset=self._data, threads=needs.cpu, gpu=needs.gpu
        )
        limited: type[tune.Trainable] = tune.with_resources(trainable, {"cpu": needs.cpu, "gpu": needs.gpu})
        return limited


def concurrency_of(driver: StudyDriver) -> int:
    """How many trials the cluster can run at once."""
    resources = ray.cluster_resources()
    needs = driver.space.resources
    slots = int(resources.get("CPU", 0) // needs.cpu)
    if needs.gpu:
        slots = min(slots, int(resources.get("GPU", 0) // needs.gpu))
    limit = driver.space.search.concurrency
    return max(1, slots if limit is None else min(limit, slots))


def _run_part(
    driver: StudyDriver,
    trainable: type[tune.Trainable],
    name: str,
    concurrency: int,
    store: ControlStoreWatch,
) -> None:
    """Run as many trials as one Tuner may see."""
    guard = _Guard()
    scheduler = _StudyScheduler(driver, guard)
    scratch = driver.study.files / "tune"  # Tune's own files; never read back
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_StudySearcher(driver, guard, store, concurrency),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=scratch.path,
            storage_filesystem=scratch.filesystem,
            stop=_Stopper(driver, guard, store, scheduler),
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the study has it all
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        cause = error.__cause__
        if isinstance(cause, ray.exceptions.OutOfMemoryError):
            # Of a worker that Ray ended for want of memory Tune may hear by an error that it does not know.
            guard(lambda: scheduler.give_up(str(cause)), None)
        elif guard.error is None and not driver.draining:  # else it only follows from the stop
            raise
    if guard.error is not None:
        raise guard.error


class _Guard:
    """Calls the driver, and keeps its first error: Tune would bury it in one of its own."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __call__(self, call: Callable[[], _Result], otherwise: _Result) -> _Result:
        """The result of a call; ``otherwise`` from the first error on."""
        if self.error is None:
            try:
                return call()
            except Exception as error:
                self.error = error
        return otherwise


class _TunePart:
    """What Tune holds of ours: one object for the whole run, and nothing of it in Tune's own state.

    Tune copies and pickles its parts to restore them later; we never do, the study is the truth.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> _TunePart:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _StudySearcher(_TunePart, Searcher):  # type: ignore[misc]
    """Gives Tune the driver's assignments."""

    def __init__(
        self, driver: StudyDriver, guard: _Guard, store: ControlStoreWatch, concurrency: int
    ) -> None:
        super().__init__(metric="report", mode="max")
        self._driver = driver
        self._guard = guard
        self._store = store
        self._concurrency = concurrency
        self._left = max(TRIALS_PER_TUNER, _ROUNDS_PER_TUNER * concurrency)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next assignment; None for not yet; FINISHED for no more from this Tuner."""
        if self._driver.draining or self._driver.finished or self._left <= 0:
            return str(Searcher.FINISHED)
        # Tune looks each trial's Trainable up in the control store, and would wait there for ever.
        if self._driver.running >= self._concurrency or not self._store.is_reachable():
            return None
        assignment = self._guard(self._driver.next_assignment, None)
        if assignment is None:
            return str(Searcher.FINISHED) if self._driver.finished or self._guard.error else None
        self._left -= 1
        return {"assignment": assignment.to_json()}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: ANN401
        """Nothing: the scheduler, which also hears of stops and errors, calls the driver."""


class _StudyScheduler(_TunePart, TrialScheduler):  # type: ignore[misc]
    """Passes reports to the driver and stops what it stops."""

    def __init__(self, driver: StudyDriver, guard: _Guard) -> None:
        super().__init__()
        self._driver = driver
        self._guard = guard
        self._controller: Any = None
        self._watch = TrialWatch(driver.space.search.trial_minutes, driver.space.resources)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ANN401
        self._controller = tune_controller

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:  # noqa: ANN401
        """Report an epoch; STOP a trial that is pruned, PAUSE it while the study drains."""
        return self._guard(lambda: self._report(trial, result), str(TrialScheduler.STOP))

    def _report(self, trial: Trial, result: Mapping[str, Any]) -> str:
        key = _key_of(trial)
        if not self._driver.report(key, Report.from_json(result["report"])):
            return str(TrialScheduler.STOP)
        if self._driver.draining:
            self._driver.pause(key)
            return str(TrialScheduler.PAUSE)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:  # noqa: ANN401
        """Take the last report; that of a stopped trial crossed the decision, and is passed over."""
        if "report" in result:
            report = Report.from_json(result["report"])
            self._guard(lambda: self._driver.report(_key_of(trial), report), False)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ANN401
        """The worker died. Tune does not try again: the driver does, and counts it in the study."""
        self._guard(lambda: self._died(trial), None)

    def _died(self, trial: Trial) -> None:
        key, driver = _key_of(trial), self._driver
        if self._watch.ended(trial):
            driver.fail(key, took_too_long(driver.space.search.trial_minutes))
            return
        page = _page_about(trial)
        trouble = storage_trouble_in(page, driver.study.files)
        if trouble is not None:
            driver.halt(key, trouble)
        else:
            driver.died(key, death_in(page))

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ANN401
        """Nothing: we never remove one."""

    def choose_trial_to_run(self, tune_controller: Any, **_: Any) -> Trial | None:  # noqa: ANN401
        """The first that waits."""
        if self._driver.draining:
            return None
        for trial in tune_controller.get_trials():
            if trial.status == Trial.PENDING:
                return trial
        return None

    def debug_string(self) -> str:
        return "StudyScheduler"

    def watch(self) -> None:
        """Look after trials that hang or wait."""
        if self._controller is not None:
            self._watch.look(self._controller.get_live_trials())

    def give_up(self, error: str) -> None:
        """Tune gave up over a worker that Ray ended: that worker's trial died, the others continue elsewhere.

        Args:
            error: What Ray says; it names the workers that it ended.
        """
        ended = set(re.findall(r"Selected to kill: \(Actor\((\w+)\)", error))
        actors = {_key_of(trial): actor_of(trial) for trial in self._controller.get_live_trials()}
        named = {key for key, actor in actors.items() if actor and actor_id(actor) in ended}
        for key in actors:
            if key in named or not named:
                self._driver.died(key, death_in(error))
            else:
                self._driver.pause(key)
        with suppress(RuntimeError):  # the same worker, once more
            end_trials(self._controller)
        release_actors(self._controller)

    def is_settled(self) -> bool:
        """Whether no trial trains or is being put aside."""
        trials = () if self._controller is None else self._controller.get_live_trials()
        return all(trial.status != Trial.RUNNING and not is_saving(trial) for trial in trials)


class _Stopper(_TunePart, Stopper):  # type: ignore[misc]
    """Ends the Tuner after an error, and once a draining study is at rest or has taken too long over it.

    Tune asks it in each turn of its loop, which is where trials and Ray are watched, too.
    """

    def __init__(
        self, driver: StudyDriver, guard: _Guard, store: ControlStoreWatch, scheduler: _StudyScheduler
    ) -> None:
        self._driver = driver
        self._guard = guard
        self._store = store
        self._scheduler = scheduler
        self._deadline: float | None = None

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._store.check()
        if self._guard.error is not None:
            return True
        self._scheduler.watch()
        if not self._driver.draining:
            return False
        if self._deadline is None:
            self._deadline = time.monotonic() + DRAIN_SECONDS
        return self._scheduler.is_settled() or time.monotonic() > self._deadline


def _page_about(trial: Trial) -> str:
    """What Ray writes about a trial's error."""
    name = error_file(trial)
    page = None if name is None else Path(name)
    return page.read_text(errors="replace") if page is not None and page.is_file() else ""


def _key_of(trial: Trial) -> TrialKey:
    return TrialKey.parse(Assignment.from_json(trial.config["assignment"]).key)
