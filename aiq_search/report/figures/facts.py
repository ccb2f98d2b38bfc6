"""The data behind the figures and the report: the records of a study, sorted and labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from aiq_search.errors import NothingFeasibleError
from aiq_search.study.champion import (
    Champion,
    judge_finalists,
    most_accurate,
    rank_key,
    score,
)
from aiq_search.study.description import widths
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.finalists import Verdict, verdicts
from aiq_search.study.progress import ranking
from aiq_search.study.reference import Comparison, compare

if TYPE_CHECKING:
    from aiq_search.study import StudyView
    from aiq_search.study.record import TrialRecord

__all__ = ["MOST_DRAWN", "StudyFacts", "sampled"]


# Complete trials up to which a picture shows all: more make the page heavy and look no different.
MOST_DRAWN = 2000

T = TypeVar("T")


def sampled(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, at even distances.

    >>> sampled(range(10), 4), sampled("ab", 5)
    ([0, 2, 5, 7], ['a', 'b'])
    """
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


class StudyFacts:
    """A study as the pictures see it. Who leads and who won is asked of the study room.

    Args:
        study: Whose records are read, once.
    """

    def __init__(self, study: StudyView) -> None:
        self._study = study
        self.id = study.id
        self.document = study.document
        self.options = study.document.space
        records = list(study.records())
        self.explored = [r for r in records if r.key.phase is Phase.EXPLORE]
        self.confirmed = [r for r in records if r.key.phase is Phase.CONFIRM]
        self._referenced = [r for r in records if r.key.phase is Phase.REFERENCE]
        self._finalists = list(study.finalists)

    @cached_property
    def objective(self) -> str:
        """Name of the number that trials are ranked by."""
        return ranking(self.options.objective)[0]

    @property
    def goal(self) -> str:
        """The objective as one writes it."""
        return "aIQ" if self.objective == "aiq" else self.objective

    @cached_property
    def sign(self) -> int:
        """1 if more of the objective is better, else -1."""
        return ranking(self.options.objective)[1]

    @property
    def space(self) -> str:
        """Name of the space."""
        return self.options.name

    @cached_property
    def beta(self) -> float:
        """Weight of accuracy in aIQ."""
        return self.document.beta

    @cached_property
    def observations(self) -> int:
        """Size of the validation split, on which states are counted."""
        return self.document.dataset.validation

    @cached_property
    def rules(self) -> Mapping[str, Mapping[str, Any]]:
        """The searched parameters of the space, in its order."""
        rules: Mapping[str, Any] = self.options.document()["parameters"]
        return {name: rule for name, rule in rules.items() if rule.get("type") != "derived"}

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """Exploring trials that were trained to their end."""
        return [r for r in self.explored if r.state is TrialState.COMPLETE and r.metrics]

    @cached_property
    def drawn(self) -> list[TrialRecord]:
        """The complete trials that pictures show: all, or in a large study a sample with all that matter.

        Those are the best, the most accurate, and the finalists; the others are taken at even distances.
        """
        if len(self.complete) <= MOST_DRAWN:
            return self.complete
        matter = {r.key for r in self.ranked[: MOST_DRAWN // 10]}
        matter |= {r.key for r in self.complete if r.key.number in self.confirmed_origins}
        matter |= {r.key for r in (self.champion, self.most_accurate) if r is not None}
        others = sampled([r for r in self.complete if r.key not in matter], MOST_DRAWN - len(matter))
        chosen = matter | {r.key for r in others}
        return [r for r in self.complete if r.key in chosen]

    @property
    def sample(self) -> str:
        """A sentence on ``drawn``, for captions; empty where all trials are drawn."""
        if len(self.drawn) == len(self.complete):
            return ""
        return (
            f" Of {len(self.complete):,} complete trials {len(self.drawn):,} are drawn, the best among them."
        )

    @cached_property
    def ranked(self) -> list[TrialRecord]:
        """Complete trials, the best first: the feasible before the others."""
        return sorted(self.complete, key=lambda r: rank_key(self.options.objective, r))

    @cached_property
    def winner(self) -> Champion | None:
        """The champion as far as the study has come, with its numbers over the seeds."""
        with suppress(NothingFeasibleError):
            champion = self._study.champion()
            ours = {record.key.number: record for record in self.explored}
            return replace(champion, explored=ours.get(champion.trial, champion.explored))
        return None

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """How each finalist came out, the champion first."""
        return verdicts(self.options, self.winner, self.finalists)

    @property
    def confirmed_winner(self) -> bool:
        """Whether the champion was chosen on fresh seeds."""
        return self.winner is not None and bool(self.winner.judges)

    @property
    def champion(self) -> TrialRecord | None:
        """The exploring trial that found the champion."""
        return self.winner.explored if self.winner else None

    @property
    def title(self) -> str:
        """What the winner is called: champion only where it was confirmed."""
        return "best so far" if self.winner is None else self.winner.title

    @cached_property
    def finalists(self) -> list[Champion]:
        """Configurations that were confirmed, as their fresh seeds show them, the best mean first."""
        judged = judge_finalists(self.options, self.explored, self.confirmed, self._finalists)
        return sorted(judged, key=lambda f: (not f.feasible, -f.validation["objective"].mean, f.trial))

    @cached_property
    def confirmed_origins(self) -> frozenset[int]:
        """Numbers of the exploring trials that were confirmed."""
        return frozenset(f.trial for f in self.finalists)

    @cached_property
    def comparison(self) -> Comparison | None:
        """The champion beside the reference network; None where it is the most accurate itself."""
        if self.winner is None:
            return None
        return compare(self.winner, self.explored, self.confirmed, self._referenced)

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial."""
        return [*self.explored, *self.confirmed, *self._referenced]

    @cached_property
    def most_accurate(self) -> TrialRecord | None:
        """The complete trial with the highest accuracy; the smaller one if several."""
        return most_accurate(self.explored)

    @cached_property
    def layers(self) -> list[str]:
        """Names of the hidden layers."""
        names = (n for r in self.complete for n in r.metrics if n.startswith("efficiency/"))
        return list(dict.fromkeys(n.removeprefix("efficiency/") for n in names))

    def score(self, record: TrialRecord) -> float:
        """What a trial is ranked by, larger is better."""
        return score(self.options.objective, record)

    def shown(self, score: float) -> float:
        """The objective itself, from a score."""
        return self.sign * score

    def label(self, record: TrialRecord) -> str:
        """Widths and number: ``4-2-8 (#42)``."""
        number = record.key.number if record.origin is None else record.origin
        return f"{widths(self.options, record.params) or 'trial'} (#{number})"

    def hover(self, record: TrialRecord) -> str:
        """What is shown when the pointer is on a trial."""
        metrics = record.metrics
        numbers = [f"{n} {metrics[n]:.4f}" for n in ("aiq", "accuracy", "efficiency") if n in metrics]
        size = f"{metrics['parameters']:,.0f} parameters" if "parameters" in metrics else ""
        state = "" if record.state is TrialState.COMPLETE else f"{record.state} after {record.epochs} epochs"
        limits = "misses a constraint" if record.feasible is False else ""
        lines = [f"<b>{self.label(record)}</b>", *numbers, size, state, limits]
        return "<br>".join(line for line in lines if line)
