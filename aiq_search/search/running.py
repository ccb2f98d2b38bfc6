"""A trial in training: what its worker has reported, and the result that this amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from aiq_search.space import ObjectiveOptions
from aiq_search.space.constraint import feasible
from aiq_search.study.events import TrialState
from aiq_search.study.record import ATTEMPTS, TrialRecord

__all__ = ["RunningTrial", "objective_values"]


def objective_values(objective: ObjectiveOptions, record: TrialRecord) -> list[float]:
    """The values for Optuna, one per objective; of a collapsed network, its merits count as 0."""
    return [record.scored[name] for name, _ in objective.directions]


@dataclass
class RunningTrial:
    """A trial in training.

    Attributes:
        trial: Optuna's.
        record: What was known of it when it began.
        epochs: Metrics of the epochs reported so far.
        chosen: The epoch of the lowest validation loss, as the worker reported it.
        size: parameters, parameters_weights, macs, costs, ceiling/<layer>.
        engine: What trains and measures.
        engine_reason: Why torch, where the compiled engine would have been taken.
        seconds: How long that has taken workers.
    """

    trial: optuna.Trial
    record: TrialRecord
    epochs: dict[int, Mapping[str, float]] = field(default_factory=dict)
    chosen: int | None = None
    size: Mapping[str, float] = field(default_factory=dict)
    engine: str | None = None
    engine_reason: str | None = None
    seconds: float = 0.0

    @property
    def attempts(self) -> int:
        """How often the trial was begun, without the attempts that ended in good order."""
        return int(self.trial.user_attrs.get(ATTEMPTS, 1))

    def at(self, epoch: int) -> TrialRecord:
        """The record that the trial would have if it ended at this epoch."""
        upto = {number: metrics for number, metrics in self.epochs.items() if number <= epoch}
        chosen = min(upto, key=lambda number: (upto[number]["loss"], number))
        metrics = {**upto[chosen], **self.size}
        return TrialRecord(
            self.record.key,
            TrialState.RUNNING,
            self.record.params,
            self.record.seed,
            self.record.config_hash,
            epoch=chosen,
            metrics=metrics,
            collapsed=metrics["efficiency"] == 0,
        )

    def summary(self, objective: ObjectiveOptions, final: Mapping[str, float]) -> dict[str, Any]:
        """What is kept of a trial that ran at least one epoch.

        Args:
            objective: What is searched for.
            final: What was measured at its end: on the test split, in eight bits.
        """
        numbers = sorted(self.epochs)
        scores = self.at(numbers[-1])
        scores = replace(scores, metrics={**scores.metrics, **final})
        columns = self.epochs[numbers[0]].keys()
        return {
            "value": objective_values(objective, scores)[0],
            "epoch": scores.epoch,
            "epochs": len(numbers),
            "metrics": scores.metrics,
            "history": {name: [self.epochs[n][name] for n in numbers] for name in columns},
            "collapsed": scores.collapsed,
            "engine": self.engine,
            "engine_reason": self.engine_reason,
            "feasible": feasible(objective.number_constraints, scores.scored),
        }
