"""What the pictures and the report are drawn from: the records of a study, sorted and labelled."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aiq_search.search.events import Phase, TrialState
from aiq_search.tracking.layout import objective, widths
from aiq_search.tracking.reconcile import RecordedStudy

if TYPE_CHECKING:
    from aiq_search.search.record import TrialRecord

__all__ = ["Finalist", "StudyFacts"]


@dataclass(frozen=True)
class Finalist:
    """A configuration that was trained again on fresh seeds.

    Attributes:
        explored: The trial that found it.
        confirmed: The seeds by which it was judged.
        further: Seeds that had no part in the choice; those of the champion give its test numbers.
    """

    explored: TrialRecord
    confirmed: Sequence[TrialRecord]
    further: Sequence[TrialRecord] = ()

    def values(self, name: str) -> list[float]:
        """A number of each judging seed; a training that collapsed or failed counts as 0."""
        return [_scored(r, name) for r in self.confirmed]

    @property
    def tests(self) -> Sequence[TrialRecord]:
        """The seeds whose test numbers are told."""
        return self.further or self.confirmed

    def mean(self, name: str) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values(name))

    def deviation(self, name: str) -> float:
        """Standard deviation over the seeds, 0 for one."""
        values = self.values(name)
        return statistics.stdev(values) if len(values) > 1 else 0.0


def _scored(record: TrialRecord, name: str) -> float:
    return record.scored.get(name, 0.0) if record.state is TrialState.COMPLETE else 0.0


class StudyFacts:
    """A study as the pictures see it.

    Args:
        study: Whose records are read, once.
        champion: Number of the exploring trial whose configuration won; by default the best finalist,
            else the best trial.
    """

    def __init__(self, study: RecordedStudy, champion: int | None = None) -> None:
        self.id = study.id
        self.document: Mapping[str, Any] = study.document
        records = list(study.records())
        self.explored = [r for r in records if r.key.phase is Phase.EXPLORE]
        self.confirmed = [r for r in records if r.key.phase is Phase.CONFIRM and r.finished]
        self._champion = champion

    @cached_property
    def objective(self) -> str:
        """Name of the number that trials are ranked by."""
        return objective(self.document)[0]

    @cached_property
    def sign(self) -> int:
        """1 if more of the objective is better, else -1."""
        return objective(self.document)[1]

    @cached_property
    def space(self) -> str:
        """Name of the space."""
        return str((self.document.get("space") or {}).get("name") or self.id)

    @cached_property
    def beta(self) -> float:
        """Weight of accuracy in aIQ."""
        return float(self.document.get("beta") or 2.0)

    @cached_property
    def observations(self) -> int:
        """Size of the validation split, on which states are counted."""
        return int((self.document.get("dataset") or {}).get("validation") or 0)

    @cached_property
    def rules(self) -> Mapping[str, Mapping[str, Any]]:
        """The searched parameters of the space, in its order."""
        rules = (self.document.get("space") or {}).get("parameters") or {}
        return {name: rule for name, rule in rules.items() if rule.get("type") != "derived"}

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """Exploring trials that were trained to their end."""
        return [r for r in self.explored if r.state is TrialState.COMPLETE and r.metrics]

    @cached_property
    def ranked(self) -> list[TrialRecord]:
        """Complete trials, the best first: the feasible before the others."""
        return sorted(self.complete, key=lambda r: (r.feasible is False, -self.score(r), r.key.number))

    @cached_property
    def finalists(self) -> list[Finalist]:
        """Configurations that were confirmed, the best mean first."""
        by_number = {r.key.number: r for r in self.explored}
        origins = sorted({r.origin for r in self.confirmed if r.origin in by_number and r.origin is not None})
        seeds = ((self.document.get("space") or {}).get("confirm") or {}).get("seeds") or math.inf
        found = []
        for number in origins:
            mine = [r for r in self.confirmed if r.origin == number]
            judges = [r for r in mine if (r.replicate or 0) < seeds]
            further = [r for r in mine if (r.replicate or 0) >= seeds]
            found.append(Finalist(by_number[number], judges or mine, further))
        return sorted(found, key=lambda f: -self.sign * f.mean(self.objective))

    @cached_property
    def confirmed_origins(self) -> frozenset[int]:
        """Numbers of the exploring trials that were confirmed."""
        return frozenset(f.explored.key.number for f in self.finalists)

    @cached_property
    def champion(self) -> TrialRecord | None:
        """The exploring trial that found the champion."""
        if self._champion is not None:
            return next((r for r in self.explored if r.key.number == self._champion), None)
        confirmed = [f.explored for f in self.finalists if f.explored.feasible is not False]
        if confirmed:
            return confirmed[0]
        return next((r for r in self.ranked if r.feasible is not False), None)

    @cached_property
    def champion_run(self) -> TrialRecord | None:
        """The training of the champion whose network is exported: its best seed."""
        if self.champion is None:
            return None
        final = next((f for f in self.finalists if f.explored is self.champion), None)
        trained = [*final.confirmed, *final.further] if final else []
        seeds = [r for r in trained if r.state is TrialState.COMPLETE]
        return max(seeds, key=lambda r: r.scored.get("aiq", 0.0), default=self.champion)

    @cached_property
    def most_accurate(self) -> TrialRecord | None:
        """The complete trial with the highest accuracy; the smaller one if several."""
        return max(
            self.complete,
            key=lambda r: (r.metrics.get("accuracy", 0.0), -r.metrics.get("parameters", 0.0)),
            default=None,
        )

    @cached_property
    def layers(self) -> list[str]:
        """Names of the hidden layers."""
        names = (n for r in self.complete for n in r.metrics if n.startswith("efficiency/"))
        return list(dict.fromkeys(n.removeprefix("efficiency/") for n in names))

    def score(self, record: TrialRecord) -> float:
        """What a trial is ranked by, larger is better."""
        value = record.value if record.value is not None else record.scored.get(self.objective, 0.0)
        return self.sign * value

    def label(self, record: TrialRecord) -> str:
        """Widths and number: ``4-2-8 (#42)``."""
        number = record.key.number if record.origin is None else record.origin
        return f"{widths(self.document, record.params) or 'trial'} (#{number})"

    def hover(self, record: TrialRecord) -> str:
        """What is shown when the pointer is on a trial."""
        metrics = record.metrics
        numbers = [f"{n} {metrics[n]:.4f}" for n in ("aiq", "accuracy", "efficiency") if n in metrics]
        size = f"{metrics['parameters']:,.0f} parameters" if "parameters" in metrics else ""
        state = "" if record.state is TrialState.COMPLETE else f"{record.state} after {record.epochs} epochs"
        limits = "misses a constraint" if record.feasible is False else ""
        lines = [f"<b>{self.label(record)}</b>", *numbers, size, state, limits]
        return "<br>".join(line for line in lines if line)
