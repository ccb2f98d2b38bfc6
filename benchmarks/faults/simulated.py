"""``aiq`` with simulated training: ``python -m benchmarks.faults.simulated search FILE``.

Everything is the real thing (study, storage, lock, events, MLflow) but for Ray and the training itself: a
step takes 0.2 s and its numbers follow from the configuration. So a driver is up in seconds, and many can
be killed in a minute.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from aiq_search import tracking
from aiq_search.app import publish, run
from aiq_search.cli.main import main as aiq
from aiq_search.search.driver import StudyDriver
from aiq_search.study.events import TrialKey
from aiq_search.training import save_weights
from aiq_search.worker import Assignment, Report

STEP_SECONDS = 0.2
CONCURRENCY = 2


class SimulatedRun:
    """One assignment in training; its checkpoint is a JSON file with the number of epochs."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.key = TrialKey.parse(assignment.key)
        self._checkpoint = Path(assignment.checkpoint)
        self.epoch = json.loads(self._checkpoint.read_text()) if self._checkpoint.is_file() else 0
        self._told = 0

    def step(self) -> Report:
        """One epoch, and the report of all that were not told yet."""
        self.epoch += 1
        epochs = tuple((n, self._metrics(n)) for n in range(self._told + 1, self.epoch + 1))
        self._told = self.epoch
        done = self.epoch >= self.assignment.training["epochs"]
        if done:
            save_weights(Path(self.assignment.weights), {"weight": torch.zeros(1)}, {})
        elif self.epoch % 2 == 0:
            self.save()
        test = self._metrics(self.epoch) if done and self.assignment.test else {}
        tested = {f"test/{name}": test[name] for name in ("aiq", "accuracy", "efficiency") if test}
        size = {
            "parameters": self._width * 10,
            "parameters_weights": self._width * 9,
            "macs": self._width * 9,
        }
        return Report(epochs=epochs, chosen=self.epoch, size=size, done=done, test=tested)

    def save(self) -> None:
        """Put the run aside; the file is whole or the old one."""
        part = self._checkpoint.with_suffix(".part")
        part.write_text(json.dumps(self.epoch))
        part.replace(self._checkpoint)

    @property
    def _width(self) -> int:
        return int(self.assignment.architecture["arguments"]["width"])

    def _metrics(self, epoch: int) -> Mapping[str, float]:
        rate = self.assignment.training["learning_rate"]
        accuracy = (1 - math.exp(-epoch * (0.2 + rate))) * (1 - 1 / (1 + self._width))
        efficiency = 1 / (1 + self._width / 20)
        return {
            "aiq": (accuracy**2 * efficiency) ** (1 / 3),
            "accuracy": accuracy,
            "efficiency": efficiency,
            "loss": 1 - accuracy + 1e-6 * (self.assignment.seed % 1000),
            "train_loss": 1 - accuracy,
            "efficiency/hidden": efficiency,
        }


def train(prepared: object, driver: StudyDriver, trainable: object = None) -> None:
    """In place of ``aiq_search.app.run.train``: two runs at once, in this process."""
    running: list[SimulatedRun] = []
    while True:
        while len(running) < CONCURRENCY:
            assignment = driver.next_assignment()
            if assignment is None:
                break
            running.append(SimulatedRun(assignment))
        if not running:
            return
        time.sleep(STEP_SECONDS)
        for each in list(running):
            if not driver.report(each.key, each.step()):
                running.remove(each)
            elif driver.draining:
                each.save()
                driver.pause(each.key)
                running.remove(each)


class _Listener(tracking.MlflowListener):
    """Tells MLflow everything but bundles."""

    def __init__(self, directory: Path, uri: str | None, bundler: str | None = None) -> None:
        super().__init__(directory, uri)


def main() -> None:
    """Be ``aiq``; bundles and reports, which need real networks, are left out."""
    run.train = train
    tracking.MlflowListener = _Listener  # type: ignore[misc, assignment]
    publish.publish_end = publish.publish_nothing
    aiq()


if __name__ == "__main__":
    main()
