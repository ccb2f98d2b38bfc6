"""Constraints on reported numbers: ``accuracy >= 0.95``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiq_search.space.errors import shown
from aiq_search.suggest import did_you_mean
from aiq_search.training.measures import COSTS, INT8_ACCURACY, MEASURES

__all__ = ["EFFICIENCY_OF", "REPORTED_NUMBERS", "SIZES", "UNTRAINED", "Constraint", "feasible"]

# What a trial reports, besides efficiency/<layer>.
REPORTED_NUMBERS = (
    "accuracy",
    "activation_bytes",
    "aiq",
    "efficiency",
    "latency_ms",
    "loss",
    "macs",
    "parameters",
    "parameters_weights",
    "train_loss",
    *MEASURES,
    INT8_ACCURACY,
)

# Of these, the sizes of a network: known before it is trained, the same in every epoch.
SIZES = ("parameters", "parameters_weights", "macs")

# What training does not change, and is known before it.
UNTRAINED = (*SIZES, *COSTS)

# Before the name of a layer: its efficiency.
EFFICIENCY_OF = "efficiency/"

_FORM = re.compile(r"\s*(?P<name>[\w./-]+)\s*(?P<operator>>=|<=)\s*(?P<bound>\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a reported number.

    Attributes:
        name: The number.
        at_least: Whether the bound is a lower one.
        bound: The bound; itself allowed.
    """

    name: str
    at_least: bool
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read ``NAME >= NUMBER`` or ``NAME <= NUMBER``.

        Raises:
            ValueError: It has another form, or names no reported number.

        Example:
            >>> Constraint.parse("accuracy >= 0.95")
            Constraint(name='accuracy', at_least=True, bound=0.95)
        """
        match = _FORM.fullmatch(text)
        try:
            bound = float(match["bound"]) if match else float("nan")
        except ValueError:
            bound = float("nan")
        if match is None or not abs(bound) < float("inf"):
            raise ValueError(f"expected NAME >= NUMBER or NAME <= NUMBER, but got {shown(text)}")
        name = match["name"]
        if name not in REPORTED_NUMBERS and not name.startswith(EFFICIENCY_OF):
            valid = [*REPORTED_NUMBERS, f"{EFFICIENCY_OF}<layer>"]
            raise ValueError(
                f"{shown(name)} in {shown(text)} is not a reported number; {did_you_mean(name, valid)}"
            )
        return cls(name, match["operator"] == ">=", bound)

    def __str__(self) -> str:
        return f"{self.name} {'>=' if self.at_least else '<='} {self.bound:g}"

    def judged(self, metrics: Mapping[str, float]) -> str:
        """Which number is judged: an exploring trial is in float32, and has no other accuracy.

        >>> Constraint.parse("int8/accuracy >= 0.95").judged({"accuracy": 0.9})
        'accuracy'
        """
        missing = self.name == INT8_ACCURACY and self.name not in metrics
        return "accuracy" if missing else self.name

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much the bound is missed: at most 0 where it is met.

        A number that was not reported (a layer that this network does not have) misses nothing.

        >>> round(Constraint.parse("accuracy >= 0.95").violation({"accuracy": 0.9}), 6)
        0.05
        """
        value = metrics.get(self.judged(metrics))
        if value is None:
            return 0.0
        return self.bound - value if self.at_least else value - self.bound


def feasible(constraints: Iterable[Constraint], metrics: Mapping[str, float]) -> bool:
    """Whether every constraint is met."""
    return all(constraint.violation(metrics) <= 0 for constraint in constraints)
