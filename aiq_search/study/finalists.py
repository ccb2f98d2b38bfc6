"""Why the champion won, and why each other finalist did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aiq_search.errors import NothingFeasibleError
from aiq_search.space import SearchSpace
from aiq_search.study.champion import Champion, is_eligible, judge_finalists
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.posterior import Posterior
from aiq_search.study.progress import ranking
from aiq_search.study.score import mean_metrics
from aiq_search.words import shown

if TYPE_CHECKING:
    from aiq_search.study.view import StudyView

__all__ = ["Outcome", "Verdict", "tied_with", "verdicts", "verdicts_of"]


class Outcome(StrEnum):
    """How a finalist came out."""

    WON = "won"
    TIED = "tied"
    LOST = "lost"
    INFEASIBLE = "infeasible"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Verdict:
    """A finalist beside the champion.

    Attributes:
        finalist: The finalist.
        outcome: How it came out.
        reason: Why, as the rest of a sentence about the finalist.
        feasible_seeds: On how many of its seeds every constraint was met.
        lead: By how much its mean score is better than the champion's, with the standard error; None
            where there is no champion.
    """

    finalist: Champion
    outcome: Outcome
    reason: str
    feasible_seeds: int
    lead: Posterior | None

    def document(self) -> dict[str, Any]:
        """As JSON: a row of ``finalists`` in ``aiq best --format json``."""
        finalist, lead = self.finalist, self.lead
        return {
            "trial": finalist.trial,
            "params": dict(finalist.params),
            "parameters": int(finalist.record.metrics["parameters"]),
            "seeds": len(finalist.judges),
            "validation": {name: spread.document() for name, spread in finalist.validation.items()},
            "feasible": finalist.feasible,
            "feasible_seeds": self.feasible_seeds,
            "lead": None if lead is None else {"mean": lead.mean, "error": lead.sd},
            "outcome": str(self.outcome),
            "reason": self.reason,
        }


def verdicts(space: SearchSpace, champion: Champion | None, finalists: Sequence[Champion]) -> list[Verdict]:
    """Every finalist with its verdict: the champion, those that tie with it, the others, the infeasible.

    Args:
        space: The space.
        champion: The champion; None where nothing is feasible or nothing is decided yet.
        finalists: As ``judge_finalists`` gives them.
    """
    judged = {f.trial: f for f in finalists}
    winner = judged.get(champion.trial) if champion is not None and champion.judges else None
    rows = [_verdict(space, finalist, winner, finalists) for finalist in finalists]
    order = list(Outcome)
    return sorted(rows, key=lambda row: (order.index(row.outcome), -row.finalist.mean, row.finalist.trial))


def verdicts_of(study: StudyView) -> list[Verdict]:
    """Every finalist of a study with its verdict; empty before anything was trained on a fresh seed."""
    explored, confirmed = study.records(Phase.EXPLORE), study.records(Phase.CONFIRM)
    finalists = judge_finalists(study.space, explored, confirmed, study.finalists)
    try:
        champion = study.champion()
    except NothingFeasibleError:
        champion = None
    return verdicts(study.space, champion, finalists)


def tied_with(rows: Sequence[Verdict]) -> list[int]:
    """Numbers of the trials that cannot be told apart from the champion."""
    return [row.finalist.trial for row in rows if row.outcome is Outcome.TIED]


def _verdict(
    space: SearchSpace, finalist: Champion, winner: Champion | None, finalists: Sequence[Champion]
) -> Verdict:
    name, sign = ranking(space.objective)
    constraints = space.objective.number_constraints
    met = sum(
        all(constraint.violation(mean_metrics([record])) <= 0 for constraint in constraints)
        for record in finalist.judges
        if record.state is TrialState.COMPLETE
    )

    def verdict(outcome: Outcome, reason: str) -> Verdict:
        lead = None if winner is None else finalist.lead_over(winner)
        return Verdict(finalist, outcome, reason, met, lead)

    if not finalist.feasible:
        means = mean_metrics(finalist.judges)
        missed = [c for c in constraints if c.violation(means) > 0]
        stated = " and ".join(f"{c} (mean {means.get(c.judged(means), 0.0):.4g})" for c in missed)
        seeds = len(finalist.judges)
        return verdict(
            Outcome.INFEASIBLE,
            f"misses {stated} on average; met on {met} of {seeds} seed{'s' * (seeds != 1)}",
        )
    if winner is None:
        return verdict(Outcome.UNDECIDED, "not decided yet")
    if finalist is winner:
        return verdict(Outcome.WON, _why_won(space, winner, finalists))
    if not is_eligible(space, finalist):
        return verdict(
            Outcome.LOST,
            f"not promising enough for more than {_seeds(finalist)}; a champion needs {space.confirm.needed}",
        )
    lead = finalist.lead_over(winner)
    difference = f"{name} {shown(name, sign * lead.mean, lead.sd, sign=True)}"
    if winner.ties_with(finalist) and finalist.ties_with(winner):
        larger = finalist.record.metrics["parameters"] > winner.record.metrics["parameters"]
        by_size = space.confirm.ties == "smallest"
        why = ("larger" if larger else "a lower mean at the same size") if by_size else "a lower mean"
        return verdict(Outcome.TIED, f"cannot be told apart from the champion ({difference}); {why}")
    return verdict(Outcome.LOST, f"worse on average ({difference})")


def _seeds(finalist: Champion) -> str:
    seeds = len(finalist.judges)
    return f"{seeds} fresh seed{'' if seeds == 1 else 's'}"


def _why_won(space: SearchSpace, winner: Champion, finalists: Sequence[Champion]) -> str:
    eligible = [f for f in finalists if f is not winner and is_eligible(space, f)]
    if not eligible:
        return "the only finalist that may become champion"
    tied = [f for f in eligible if winner.ties_with(f) and f.ties_with(winner)]
    if not tied:
        return "the best mean by more than one standard error"
    if space.confirm.ties == "smallest":
        return f"the smallest of {len(tied) + 1} that cannot be told apart"
    return f"the best mean of {len(tied) + 1} that cannot be told apart"
