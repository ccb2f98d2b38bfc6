"""A Trainable whose epochs come from the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune

from aiq_search.datasets import Dataset
from aiq_search.worker import Assignment
from benchmarks.replay.table import Table

__all__ = ["ReplayTrainable", "replaying"]


class ReplayTrainable(tune.Trainable):  # type: ignore[misc]
    """Answers one assignment after the other from the table, one epoch a step."""

    def setup(self, config: dict[str, Any], table: Table) -> None:
        """Get ready for a first assignment."""
        self._table = table
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Get ready for the next assignment."""
        self._assignment = Assignment.from_json(new_config["assignment"])
        self._epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        """Look an epoch up and report it."""
        self._epoch += 1
        report = self._table.report(self._assignment, self._epoch)
        return {"report": report.to_json(), "done": report.done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: starting over gives the same reports, and the driver passes over what it knows."""

    def load_checkpoint(self, checkpoint: Any) -> None:  # noqa: ANN401
        """Nothing."""


def replaying(table: Table) -> Callable[[Dataset, int, float], type[tune.Trainable]]:
    """What to give ``run_search`` as ``trainable``, so that it replays instead of training."""

    def make(dataset: Dataset, cpu: int, gpu: float) -> type[tune.Trainable]:
        trainable: type[tune.Trainable] = tune.with_parameters(ReplayTrainable, table=table)
        return trainable

    return make
