"""How a training is scored: the number by which trials are ranked, and means over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiq_search.space import ObjectiveOptions
from aiq_search.study.events import TrialState
from aiq_search.study.metrics import HEADLINE, is_merit
from aiq_search.study.progress import ranking
from aiq_search.study.record import TrialRecord

__all__ = ["mean_metrics", "rank_key", "score", "worst_score"]


def score(objective: ObjectiveOptions, record: TrialRecord) -> float:
    """The number that a trial is ranked by, larger is better."""
    name, sign = ranking(objective)
    return sign * record.scored[name]


def rank_key(objective: ObjectiveOptions, record: TrialRecord) -> tuple[bool, float, int]:
    """Sorts the best first: feasible, then by score, then the earliest."""
    return (not record.feasible, -score(objective, record), record.key.number)


def worst_score(objective: ObjectiveOptions, records: Iterable[TrialRecord]) -> float:
    """The score of a training that failed: that of a collapse, or the worst seen where less is better."""
    directions = [direction for _, direction in objective.directions]
    if directions != ["minimize"]:
        return 0.0
    complete = (record for record in records if record.state is TrialState.COMPLETE)
    return min((score(objective, record) for record in complete), default=0.0)


def mean_metrics(records: Sequence[TrialRecord]) -> dict[str, float]:
    """Means over seeds by which feasibility is judged; a seed that failed was good at nothing."""
    complete = [record for record in records if record.state is TrialState.COMPLETE]
    means = {}
    for name in {*HEADLINE, *(name for record in complete for name in record.metrics)}:
        good = is_merit(name)
        counted = [r.scored[name] for r in complete if name in r.metrics]
        means[name] = sum(counted) / (len(counted) + (len(records) - len(complete) if good else 0))
    return means
