"""Studies without training: a worker that computes what a network would have reported."""

import math
import random

from aiq_search.search.driver import StudyDriver
from aiq_search.space import load_space
from aiq_search.study import Study, TrialKey
from aiq_search.worker import Assignment, Report

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
        "confirm": {"finalists": 2, "seeds": 2},
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


def metrics_of(assignment, epoch):
    """Numbers that get better with the epochs, best near hidden1 = 12, hidden2 = 6, noisy by seed."""
    widths = assignment.architecture["arguments"]
    noise = random.Random(assignment.seed).gauss(0, 0.01)
    distance = abs(math.log(widths["hidden1"] / 12)) + abs(math.log(widths["hidden2"] / 6))
    aiq = max(0.01, (0.9 - 0.1 * distance + noise) * (1 - 0.5**epoch))
    accuracy = min(1.0, max(0.0, aiq + 0.05))
    return {
        "aiq": aiq,
        "accuracy": accuracy,
        "efficiency": min(1.0, aiq**3 / accuracy**2),
        "loss": 1 - aiq,
        "train_loss": 1 - aiq,
        "efficiency/hidden1": 0.5,
        "efficiency/hidden2": 0.5,
    }


def report_of(assignment, epoch, metrics=None):
    metrics = metrics or metrics_of(assignment, epoch)
    last = epoch >= assignment.training["epochs"]
    test = {f"test/{n}": metrics[n] for n in ("aiq", "accuracy", "efficiency")}
    widths = assignment.architecture["arguments"]
    weights = 64 * widths["hidden1"] + widths["hidden1"] * widths["hidden2"] + widths["hidden2"] * 10
    return Report(
        epochs=((epoch, metrics),),
        chosen=epoch,
        size={"parameters": weights + 10, "parameters_weights": weights, "macs": weights},
        done=last,
        test=test if last and assignment.test else {},
    )


def run(driver, *, concurrency=1, change=None, stop_after=None):
    """Drive a study to its end, or for so many reports; the keys in the order in which they began.

    Args:
        driver: The driver, begun.
        concurrency: Trials at once; each in turn reports an epoch.
        change: May replace a report: called with assignment, epoch and report.
        stop_after: Number of reports after which the driver is left as a kill would leave it.
    """
    live, begun, reports = {}, [], 0
    while True:
        while len(live) < concurrency and (assignment := driver.next_assignment()) is not None:
            assert Assignment.from_json(assignment.to_json()) == assignment
            live[key_of(assignment)] = (assignment, 0)
            begun.append(key_of(assignment))
        if not live:
            assert driver.finished or driver.draining
            return begun
        for key, (assignment, epoch) in list(live.items()):
            report = report_of(assignment, epoch + 1)
            if change is not None:
                report = change(assignment, epoch + 1, report)
            live[key] = (assignment, epoch + 1)
            assert Report.from_json(report.to_json()) == report
            if not driver.report(key, report):
                del live[key]
            reports += 1
            if stop_after is not None and reports >= stop_after:
                return begun


def finish(study, listeners=(), **how):
    """Run a study in a fresh driver; the champion."""
    driver = StudyDriver(study, listeners)
    driver.begin()
    run(driver, **how)
    return driver.end()
