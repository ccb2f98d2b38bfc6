"""The finalists as a table, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiq_search.space import SearchSpace
from aiq_search.study.description import widths
from aiq_search.study.finalists import Verdict
from aiq_search.study.progress import ranking
from aiq_search.words import shown

__all__ = ["FinalistRow", "finalist_rows"]


@dataclass(frozen=True)
class FinalistRow:
    """A finalist in words.

    Attributes:
        trial: Number of its exploring trial.
        configuration: Its widths, or its parameters where it has none.
        parameters: Size of its network.
        mean: Mean and standard deviation of the objective over its fresh seeds.
        seeds: How many fresh seeds it has.
        feasible: On how many of them it meets every constraint.
        lead: By how much its estimated mean exceeds the champion's, with the standard error.
        why: How it came out, and why.
    """

    trial: str
    configuration: str
    parameters: str
    mean: str
    seeds: str
    feasible: str
    lead: str
    why: str


def finalist_rows(space: SearchSpace, verdicts: Sequence[Verdict]) -> list[FinalistRow]:
    """A row for each finalist, in the order of ``verdicts``."""
    return [_row(space, verdict) for verdict in verdicts]


def _row(space: SearchSpace, verdict: Verdict) -> FinalistRow:
    finalist, seeds = verdict.finalist, len(verdict.finalist.judges)
    spread, (name, sign) = finalist.validation["objective"], ranking(space.objective)
    mean = shown(name, sign * spread.mean, spread.sd if spread.n > 1 else None)
    params = {key: value for key, value in finalist.params.items() if key in space.parameters}
    listed = ", ".join(f"{key.partition('.')[2]}={value}" for key, value in params.items())
    lead = ""
    if verdict.lead is not None and verdict.outcome != "won":
        lead = shown(name, sign * verdict.lead.mean, verdict.lead.sd, sign=True)
    return FinalistRow(
        trial=str(finalist.trial),
        configuration=widths(space, finalist.params) or listed,
        parameters=f"{finalist.record.metrics['parameters']:,.0f}",
        mean=mean,
        seeds=str(seeds),
        feasible=f"{verdict.feasible_seeds} of {seeds}",
        lead=lead,
        why=f"{verdict.outcome}: {verdict.reason}",
    )
