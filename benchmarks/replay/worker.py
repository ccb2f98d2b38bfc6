"""A worker whose epochs come from the table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiq_search.datasets import Dataset
from aiq_search.worker import Assignment, MakeWorker, Report
from benchmarks.replay.table import Table

__all__ = ["ReplayWorker", "replaying"]


class ReplayWorker:
    """Answers one assignment after the other from the table, one epoch a step.

    Args:
        table: The table.
        trained: Called at each epoch.
    """

    def __init__(self, table: Table, trained: Callable[[], None] | None = None) -> None:
        self._table = table
        self._trained = trained

    def begin(self, assignment: Assignment) -> None:
        """Take an assignment."""
        self._assignment = assignment
        self._epoch = 0

    def step(self) -> Report:
        """Look an epoch up and report it."""
        self._epoch += 1
        if self._trained is not None:
            self._trained()
        return self._table.report(self._assignment, self._epoch)

    def put_aside(self) -> None:
        """Nothing: starting over gives the same reports, and the driver passes over those that it has."""


def replaying(table: Table) -> MakeWorker:
    """What to give ``run_search`` as ``worker``, so that it replays instead of training."""
    return partial(_make, table)


def _make(table: Table, dataset: Dataset, threads: int, gpu: float) -> ReplayWorker:
    return ReplayWorker(table)
