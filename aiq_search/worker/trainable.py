"""A worker as Ray Tune wants it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ray import tune

from aiq_search.worker.messages import Assignment

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset
    from aiq_search.worker.messages import MakeWorker

__all__ = ["WorkerTrainable"]


class WorkerTrainable(tune.Trainable):  # type: ignore[misc]
    """Lets Ray Tune call a worker: one actor, which answers one assignment after the other."""

    def setup(
        self, config: dict[str, Any], make: MakeWorker, dataset: Dataset, threads: int, gpu: float
    ) -> None:
        """Create the worker, and begin its first assignment.

        Args:
            config: Has the assignment, as JSON.
            make: Creates the worker, from the arguments that follow.
            dataset: The data.
            threads: torch threads of a trial.
            gpu: GPUs of a trial.
        """
        if not gpu:  # Ray leaves every GPU in sight of these, and all trials would crowd onto the first
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._worker = make(dataset, threads, gpu)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next assignment."""
        self._worker.begin(Assignment.from_json(new_config["assignment"]))
        return True

    def step(self) -> dict[str, Any]:
        """Train until the next report."""
        report = self._worker.step()
        return {"report": report.to_json(), "done": report.done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Put the trial aside in the study's own folder; Tune's folder stays empty."""
        self._worker.put_aside()

    def load_checkpoint(self, checkpoint: Any) -> None:  # noqa: ANN401
        """Nothing: the worker finds its checkpoint in the study's own folder."""
