"""A study on Ray Tune: a Searcher and a TrialScheduler that ask and tell the driver."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from aiq_search.files import Place, StorageError, StoredPath, remove_tree
from aiq_search.search.driver import StudyDriver
from aiq_search.search.runners.ray_watch import TrialWatch
from aiq_search.study.events import TrialKey
from aiq_search.worker import Assignment, Report

__all__ = ["DRAIN_SECONDS", "TRIALS_PER_TUNER", "TUNE_ENVIRONMENT", "run_on_ray"]

# Tune keeps every trial that it has seen: a fresh Tuner now and then bounds the driver's memory. Slots wait
# for the last trials of the old one: a large cluster gets so many rounds of trials from each.
TRIALS_PER_TUNER = 1000
_ROUNDS_PER_TUNER = 25

# How long running epochs may take to come to their end once the study is being stopped.
DRAIN_SECONDS = 20.0

TUNE_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
}


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

    def __init__(self, driver: StudyDriver, concurrency: int) -> None:
        super().__init__(metric="report", mode="max")
        self._driver = driver
        self._concurrency = concurrency
        self._most = max(TRIALS_PER_TUNER, _ROUNDS_PER_TUNER * concurrency)
        self.given = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next assignment; None for not yet; FINISHED for no more from this Tuner."""
        if self._driver.draining or self._driver.finished or self.given >= self._most:
            return str(Searcher.FINISHED)
        if self._driver.running >= self._concurrency:
            return None
        assignment = self._driver.next_assignment()
        if assignment is None:
            return str(Searcher.FINISHED) if self._driver.finished else None
        self.given += 1
        return {"assignment": assignment.to_json()}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: ANN401
        """Nothing: the scheduler, which also hears of stops and errors, tells the driver."""


class _StudyScheduler(_TunePart, TrialScheduler):  # type: ignore[misc]
    """Hands reports to the driver and stops what it stops."""

    def __init__(self, driver: StudyDriver) -> None:
        super().__init__()
        self._driver = driver
        self._controller: Any = None
        self._watch = TrialWatch(driver.space.search.trial_minutes, driver.space.resources)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ANN401
        self._controller = tune_controller

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:  # noqa: ANN401
        """Report an epoch; STOP a trial that is pruned, PAUSE it while the study drains."""
        key = _key_of(trial)
        if not self._driver.report(key, Report.from_json(result["report"])):
            return str(TrialScheduler.STOP)
        if self._driver.draining:
            self._driver.pause(key)
            return str(TrialScheduler.PAUSE)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:  # noqa: ANN401
        """Take the last report; one that was stopped is told already."""
        if "report" in result:
            self._driver.report(_key_of(trial), Report.from_json(result["report"]))

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ANN401
        """The worker died. Tune does not try again: the driver does, and counts it in the study."""
        key = _key_of(trial)
        if self._watch.ended(trial):
            minutes = self._driver.space.search.trial_minutes
            self._driver.fail(
                key, f"took longer than search.trial_minutes = {minutes:g}, in an epoch that hung"
            )
            return
        error = _page_about(trial)
        if _says_full(error):
            self._driver.halt(key, "the disk is full where the study is: free some space")
        elif StorageError.__name__ in error:
            self._driver.halt(key, f"the storage cannot be used ({_last_line(error)}): bring it back")
        else:
            self._driver.died(key, reason_of(error))

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
        """Tune gave up over a worker that Ray ended: that worker's trial died, the others go on elsewhere.

        Args:
            error: What Ray says; it names the workers that it ended.
        """
        ended = set(re.findall(r"Selected to kill: \(Actor\((\w+)\)", error))
        workers = {_key_of(t): t.temporary_state.ray_actor for t in self._controller.get_live_trials()}
        named = {key for key, actor in workers.items() if actor and actor._actor_id.hex() in ended}
        for key in workers:
            if key in named or not named:
                self._driver.died(key, reason_of(error))
            else:
                self._driver.pause(key)
        with suppress(RuntimeError):  # the same worker, once more
            self._controller.cleanup()
        self._controller._actor_manager.cleanup()  # what it holds of the cluster is the next Tuner's

    def settled(self) -> bool:
        """Whether no trial trains or is being put aside."""
        trials = () if self._controller is None else self._controller.get_live_trials()
        return all(t.status != Trial.RUNNING and not t.is_saving for t in trials)


# How Ray begins to say what a dead worker died of.
_EXIT = "Worker exit type"


def _says_full(error: str) -> bool:
    """Whether Ray's page about an error says that the disk or a quota is used up.

    >>> _says_full("OSError: [Errno 28] No space left on device"), _says_full("[Errno 2] No such file")
    (True, False)
    """
    return any(os.strerror(number) in error for number in (errno.ENOSPC, errno.EDQUOT))


def _page_about(trial: Trial) -> str:
    """What Ray says of a trial's error.

    Tune keeps it on this machine at first; its own ``get_error`` looks in the storage, where it comes later.
    """
    page = None if trial.error_file is None else Path(trial.error_file)
    return page.read_text(errors="replace") if page is not None and page.is_file() else ""


def reason_of(error: str) -> str:
    r"""Why a worker died, in one line, from Ray's page about it.

    >>> reason_of("The actor died.\nWorker exit type: SYSTEM_ERROR. Some common causes include: (1) …")
    'the worker died: Worker exit type: SYSTEM_ERROR.'
    """
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    if "OutOfMemoryError" in error or "running low on memory" in error:
        return (
            "out of memory: Ray ended the worker before the machine ran out; give the trial a smaller batch "
            "or network, or run fewer at once (search.concurrency)"
        )
    exits = [line[line.index(_EXIT) :].partition(" Some common causes")[0] for line in lines if _EXIT in line]
    return f"the worker died: {(exits or lines or ['no message'])[-1]}"


def _last_line(error: str) -> str:
    return ([line.strip() for line in error.splitlines() if line.strip()] or ["no message"])[-1]


class _DrainStopper(_TunePart, Stopper):  # type: ignore[misc]
    """Ends the Tuner once a draining study has come to rest, or has taken too long over it.

    Tune asks it in each turn of its loop, which is where trials are watched, too.
    """

    def __init__(self, driver: StudyDriver, scheduler: _StudyScheduler) -> None:
        self._driver = driver
        self._scheduler = scheduler
        self._deadline: float | None = None

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._scheduler.watch()
        if not self._driver.draining:
            return False
        if self._deadline is None:
            self._deadline = time.monotonic() + DRAIN_SECONDS
        return self._scheduler.settled() or time.monotonic() > self._deadline


def _key_of(trial: Trial) -> TrialKey:
    return TrialKey.parse(Assignment.from_json(trial.config["assignment"]).key)


def concurrency_of(driver: StudyDriver) -> int:
    """How many trials the cluster can run at once."""
    resources = ray.cluster_resources()
    needed = driver.space.resources
    slots = int(resources.get("CPU", 0) // needed.cpu)
    if needed.gpu:
        slots = min(slots, int(resources.get("GPU", 0) // needed.gpu))
    limit = driver.space.search.concurrency
    return max(1, slots if limit is None else min(limit, slots))


def run_on_ray(driver: StudyDriver, trainable: type[tune.Trainable], scratch: Place) -> None:
    """Run a study to its end, or until it is drained, on the Ray cluster that is connected.

    Args:
        driver: The study's driver, begun.
        trainable: What answers assignments with reports; see ``training_trainable``.
        scratch: Folder for Tune's own files; never read back.
    """
    concurrency = concurrency_of(driver)
    os.environ.update(TUNE_ENVIRONMENT, TUNE_MAX_PENDING_TRIALS_PG=str(concurrency))
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are ours to tell
    needed = driver.space.resources
    trainable = tune.with_resources(trainable, {"cpu": needed.cpu, "gpu": needed.gpu})
    part = 0
    while not (driver.finished or driver.draining):
        scheduler = _StudyScheduler(driver)
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_StudySearcher(driver, concurrency),
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"part-{part}",
                storage_path=scratch.path if isinstance(scratch, StoredPath) else str(scratch),
                storage_filesystem=scratch.filesystem if isinstance(scratch, StoredPath) else None,
                stop=_DrainStopper(driver, scheduler),
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the study has it all
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except RuntimeError as error:
            # Of a worker that Ray ended for want of memory Tune may hear by an error that it does not know.
            if not isinstance(error.__cause__, ray.exceptions.OutOfMemoryError):
                raise
            scheduler.give_up(str(error.__cause__))
        part += 1
    with suppress(OSError):
        remove_tree(scratch)
