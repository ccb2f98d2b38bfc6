"""Studies without training: a worker that computes what a network would have reported."""

import itertools
from contextlib import suppress

from aiq_search.search.driver import StudyDriver
from aiq_search.search.runners.in_process import InProcessRunner
from aiq_search.space import load_space
from aiq_search.study import Study, TrialKey
from aiq_search.worker import Assignment, Report
from tests.search.reports import report_of, rung_report_of

DATASET = {
    "name": "digits",
    "digest": "0" * 64,
    "train": 1077,
    "validation": 360,
    "test": 360,
    "input_shape": [1, 8, 8],
    "input_dtype": "uint8",
    "classes": [str(i) for i in range(10)],
}


def simulated_space(**edits):
    document = {
        "schema_version": 1,
        "name": "simulated",
        "model": {"name": "mlp"},
        "dataset": {"name": "digits"},
        "parameters": {
            "model.hidden1": {"type": "int", "low": 2, "high": 64, "log": True},
            "model.hidden2": {"type": "int", "low": 2, "high": 64, "log": True},
        },
        "search": {"trials": 12, "sampler": "random", "pruner": "none"},
        "training": {"epochs": 4},
        "confirm": {"finalists": 2, "seeds": 2, "reference": False},
    }
    for key, value in edits.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            document[key] = {**document[key], **value}
        else:
            document[key] = value
    return load_space(document)


def new_study(home, study_id="study", **edits):
    return Study.create(home, simulated_space(**edits), DATASET, study_id)


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def key_of(assignment):
    return TrialKey.parse(assignment.key)


class SimulatedWorker:
    """Computes the report of the next epoch instead of training it.

    Args:
        change: May replace a report: called with assignment, epoch and report.
    """

    def __init__(self, change=None):
        self.begun = []
        self._change = change or (lambda assignment, epoch, report: report)

    def begin(self, assignment):
        assert Assignment.from_json(assignment.to_json()) == assignment
        self.begun.append(TrialKey.parse(assignment.key))
        self._assignment, self._epoch = assignment, 0
        self._rungs = list(assignment.rungs)

    def step(self):
        if self._rungs:
            return rung_report_of(self._assignment, self._rungs.pop(0))
        self._epoch += 1
        report = report_of(self._assignment, self._epoch)
        report = self._change(self._assignment, self._epoch, report)
        assert Report.from_json(report.to_json()) == report
        return report

    def put_aside(self):
        """Nothing: starting over gives the same reports."""


class Killed(BaseException):
    """What ends a driver that is killed, in place of a signal."""


def run(driver, *, concurrency=1, change=None, stop_after=None):
    """Drive a study to its end, or for so many reports; the keys in the order in which they began.

    Args:
        driver: The driver, begun.
        concurrency: Trials at once; each in turn reports an epoch.
        change: May replace a report: called with assignment, epoch and report.
        stop_after: Number of reports after which the driver is left as a kill would leave it.
    """
    begun, report, reports = [], driver.report, itertools.count(1)

    def make():
        worker = SimulatedWorker(change)
        worker.begun = begun
        return worker

    def report_and_die(key, content):
        continues = report(key, content)
        if next(reports) == stop_after:
            raise Killed
        return continues

    driver.report = report_and_die
    with suppress(Killed):
        InProcessRunner(make, concurrency).run(driver)
    return begun


def finish(study, listeners=(), **how):
    """Run a study in a fresh driver; the champion."""
    driver = StudyDriver(study, listeners)
    driver.begin()
    run(driver, **how)
    return driver.end()
