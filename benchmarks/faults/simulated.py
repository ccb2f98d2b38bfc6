"""``aiq`` with simulated training: ``python -m benchmarks.faults.simulated search FILE``.

Everything is the real thing (study, storage, lock, events, MLflow) but for Ray and the training itself: a
step of two trials takes 0.2 s and its numbers follow from the configuration. So a driver is up in seconds,
and many can be killed in a minute.
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
from aiq_search.search.runners.in_process import InProcessRunner
from aiq_search.training import save_weights
from aiq_search.worker import Assignment, Report

STEP_SECONDS = 0.2
CONCURRENCY = 2


class SimulatedWorker:
    """Trains nothing; its checkpoint is a JSON file with the number of epochs."""

    def begin(self, assignment: Assignment) -> None:
        """Continue from the checkpoint, where there is one."""
        self._assignment = assignment
        self._checkpoint = Path(assignment.checkpoint)
        self._epoch = json.loads(self._checkpoint.read_text()) if self._checkpoint.is_file() else 0
        self._reported = 0

    def step(self) -> Report:
        """One epoch, and the report of all that were not reported yet."""
        time.sleep(STEP_SECONDS / CONCURRENCY)
        self._epoch += 1
        epochs = tuple((n, self._metrics(n)) for n in range(self._reported + 1, self._epoch + 1))
        self._reported = self._epoch
        done = self._epoch >= self._assignment.training["epochs"]
        if done:
            save_weights(Path(self._assignment.weights), {"weight": torch.zeros(1)}, {})
        elif self._epoch % 2 == 0:
            self.put_aside()
        test = self._metrics(self._epoch) if done and self._assignment.test else {}
        tested = {f"test/{name}": test[name] for name in ("aiq", "accuracy", "efficiency") if test}
        size = {
            "parameters": self._width * 10,
            "parameters_weights": self._width * 9,
            "macs": self._width * 9,
        }
        return Report(epochs=epochs, chosen=self._epoch, size=size, done=done, final=tested)

    def put_aside(self) -> None:
        """Write the checkpoint; the file is whole or the old one."""
        part = self._checkpoint.with_suffix(".part")
        part.write_text(json.dumps(self._epoch))
        part.replace(self._checkpoint)

    @property
    def _width(self) -> int:
        return int(self._assignment.architecture["arguments"]["width"])

    def _metrics(self, epoch: int) -> Mapping[str, float]:
        rate = self._assignment.training["learning_rate"]
        accuracy = (1 - math.exp(-epoch * (0.2 + rate))) * (1 - 1 / (1 + self._width))
        efficiency = 1 / (1 + self._width / 20)
        return {
            "aiq": (accuracy**2 * efficiency) ** (1 / 3),
            "accuracy": accuracy,
            "efficiency": efficiency,
            "loss": 1 - accuracy + 1e-6 * (self._assignment.seed % 1000),
            "train_loss": 1 - accuracy,
            "efficiency/hidden": efficiency,
        }


def train(prepared: object, driver: StudyDriver, worker: object = None) -> None:
    """In place of ``aiq_search.app.run.train``: two trials at once, in this process."""
    InProcessRunner(SimulatedWorker, CONCURRENCY).run(driver)


class _Listener(tracking.MlflowListener):
    """Delivers everything to MLflow but bundles."""

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
