"""The best trial so far: one notion for the driver, MLflow's curve, the report and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

from aiq_search.space import ObjectiveOptions
from aiq_search.study.events import Phase, TrialKey, TrialState

__all__ = ["Best", "Outcome", "objective_of", "ranking"]


class Outcome(Protocol):
    """A trial that has ended, as a record of the study or as an event."""

    @property
    def key(self) -> TrialKey:
        """The trial."""

    @property
    def state(self) -> TrialState:
        """Its final state."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Its numbers."""

    @property
    def feasible(self) -> bool | None:
        """Whether it meets every constraint."""

    @property
    def collapsed(self) -> bool:
        """Whether a layer has zero entropy."""


T = TypeVar("T", bound=Outcome)


def ranking(objective: ObjectiveOptions) -> tuple[str, int]:
    """The number that trials are ranked by, and its sign: 1 if more is better, else -1.

    With several objectives, one has to decide who is exported: aIQ.

    >>> ranking(ObjectiveOptions(minimize="loss")), ranking(ObjectiveOptions())
    (('loss', -1), ('aiq', 1))
    """
    if len(objective.directions) > 1:
        return "aiq", 1
    name, direction = objective.directions[0]
    return name, 1 if direction == "maximize" else -1


def objective_of(document: Mapping[str, Any]) -> ObjectiveOptions:
    """The objective in the content of a study.json; aIQ where it names none."""
    return ObjectiveOptions.model_validate((document.get("space") or {}).get("objective") or {})


class Best(Generic[T]):
    """The best exploring trial so far.

    Only complete, feasible trials that did not collapse count. Confirmations do not: a lucky seed makes no
    better configuration. Of equals the first stays.

    Args:
        objective: What is searched for; by default aIQ.

    Attributes:
        name: The number that trials are ranked by.
        trial: The best trial; None before there is one.
        ended: How many exploring trials have ended.
        since: How many of them ended after the best.
    """

    def __init__(self, objective: ObjectiveOptions | None = None) -> None:
        self.trial: T | None = None
        self.ended = self.since = 0
        self.name, self._sign = ranking(objective or ObjectiveOptions())

    def add(self, outcome: T) -> bool:
        """Count a trial that has ended; returns whether it is the new best."""
        if outcome.key.phase is not Phase.EXPLORE:
            return False
        self.ended += 1
        if not self._improves(outcome):
            self.since += 1
            return False
        self.trial, self.since = outcome, 0
        return True

    def _improves(self, outcome: T) -> bool:
        if outcome.state is not TrialState.COMPLETE or not outcome.feasible or outcome.collapsed:
            return False
        if self.name not in outcome.metrics:
            return False
        return self.trial is None or self._score(outcome) > self._score(self.trial)

    def _score(self, outcome: T) -> float:
        return self._sign * outcome.metrics[self.name]
