"""Runs a study in this process, one trial after another, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiq_search.alarm import calling_every
from aiq_search.search.runners import DRAIN_SECONDS, GRACE_SECONDS
from aiq_search.search.runners.reasons import death, storage_trouble, took_too_long
from aiq_search.study.events import TrialKey
from aiq_search.worker import Assignment, Report, Worker

if TYPE_CHECKING:
    from aiq_search.search.driver import StudyDriver

__all__ = ["InProcessRunner"]

# How often a running epoch is looked after, in seconds.
_LOOK = 0.5


class InProcessRunner:
    """Runs a study in this process.

    What happens in a trial happens to this process: a network that crashes the interpreter ends the search,
    and a call into C that hangs cannot be interrupted. Outside of the main thread no epoch can.

    Args:
        make: Creates a worker.
        concurrency: Trials at once: each in turn trains an epoch. One for ``TrialWorker``: torch has a single
            random state in a process.
    """

    def __init__(self, make: Callable[[], Worker], concurrency: int = 1) -> None:
        self._make = make
        self._concurrency = concurrency

    def run(self, driver: StudyDriver) -> None:
        """Run a study to its end, or until it is drained.

        Args:
            driver: The study's driver, begun.
        """
        watch = _Watch(driver)
        free: list[Worker] = []
        live: dict[TrialKey, Worker] = {}
        while True:
            while len(live) < self._concurrency and (assignment := driver.next_assignment()) is not None:
                worker = free.pop() if free else self._make()
                worker.begin(assignment)
                live[watch.begin(assignment)] = worker
            if not live:
                if not (driver.finished or driver.draining):
                    raise RuntimeError("no trial is in training, and the driver waits for one to end")
                return
            for key, worker in list(live.items()):
                report = _step(driver, watch, key, worker)
                if report is None:
                    del live[key]  # with its worker, whose state is not known
                elif not driver.report(key, report):
                    free.append(live.pop(key))
                elif driver.draining:
                    _put_aside(driver, key, live.pop(key))


def _step(driver: StudyDriver, watch: _Watch, key: TrialKey, worker: Worker) -> Report | None:
    """Train an epoch; None where the driver knows already why it did not end."""
    try:
        with watch.over(key):
            return worker.step()
    except _InterruptedEpoch:
        if driver.draining:
            driver.pause(key)
        else:
            driver.fail(key, took_too_long(driver.space.search.trial_minutes))
    except (Exception, SystemExit) as error:
        trouble = storage_trouble(error, driver.study.files)
        if trouble is not None:
            driver.halt(key, trouble)
        else:
            driver.died(key, death(error))
    return None


def _put_aside(driver: StudyDriver, key: TrialKey, worker: Worker) -> None:
    driver.pause(key)
    try:
        worker.put_aside()
    except Exception as error:
        trouble = storage_trouble(error, driver.study.files)
        if trouble is not None:
            driver.halt(key, trouble)  # else it continues from an earlier checkpoint


class _InterruptedEpoch(BaseException):
    """Raised within an epoch that takes too long; the user's ``except Exception`` must not catch it."""


@dataclass
class _Watch:
    """Interrupts an epoch that takes too long: longer than a trial, or than draining may."""

    driver: StudyDriver
    ends: dict[TrialKey, float] = field(default_factory=dict)
    drained: float | None = None

    def begin(self, assignment: Assignment) -> TrialKey:
        """Take note that a trial begins."""
        key = TrialKey.parse(assignment.key)
        if assignment.minutes is not None:
            self.ends[key] = time.monotonic() + 60 * assignment.minutes + GRACE_SECONDS
        return key

    def is_overdue(self, key: TrialKey) -> bool:
        """Whether a trial's epoch has taken too long."""
        now = time.monotonic()
        if self.driver.draining:
            self.drained = self.drained or now + DRAIN_SECONDS
            return now > self.drained
        return now > self.ends.get(key, now)

    @contextmanager
    def over(self, key: TrialKey) -> Iterator[None]:
        """Raise ``_InterruptedEpoch`` in the context once the trial is overdue."""

        def look() -> None:
            if self.is_overdue(key):
                raise _InterruptedEpoch

        with calling_every(_LOOK, look):
            yield
