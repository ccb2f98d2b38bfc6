"""Who wins: finalists, champion, and the most accurate trial beside it."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiq_search.errors import NothingFeasibleError
from aiq_search.space import Constraint, ObjectiveOptions, SearchSpace
from aiq_search.space.constraint import feasible
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.metrics import HEADLINE, is_merit
from aiq_search.study.progress import ranking
from aiq_search.study.record import TrialRecord, without_retried

__all__ = [
    "Champion",
    "Spread",
    "choose_champion",
    "choose_finalists",
    "judge_finalists",
    "most_accurate",
    "name_finalists",
    "rank_key",
    "score",
]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of the sample; 0 for one) of a number over seeds."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """The spread of at least one number.

        >>> Spread.of([1.0, 3.0])
        Spread(mean=2.0, sd=1.4142135623730951, n=2)
        """
        sd = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
        return cls(statistics.fmean(numbers), sd, len(numbers))

    def document(self) -> dict[str, float]:
        """As JSON."""
        return {"mean": self.mean, "sd": self.sd, "n": self.n}


@dataclass(frozen=True)
class Champion:
    """The configuration that a study chose.

    Attributes:
        explored: The exploring trial that found it.
        record: The training whose network is exported: of the champion's seeds that with the highest
            validation aIQ.
        validation: Spread over the seeds that it was chosen by, by name of the number.
        test: Spread over the fresh seeds that had no part in the choice; empty without confirmation.
        collapse_rate: Fraction of its confirmations that collapsed or failed.
        feasible: Whether the means meet every constraint.
        judges: The confirmations that ``validation`` is of.
        further: Those that ``test`` is of.
    """

    explored: TrialRecord
    record: TrialRecord
    validation: Mapping[str, Spread]
    test: Mapping[str, Spread] = field(default_factory=dict)
    collapse_rate: float = 0.0
    feasible: bool = True
    judges: Sequence[TrialRecord] = ()
    further: Sequence[TrialRecord] = ()

    @property
    def trial(self) -> int:
        """Number of the exploring trial."""
        return self.explored.key.number

    @property
    def phase(self) -> Phase:
        """Whether it was confirmed, or is the best exploring trial so far."""
        return self.record.key.phase

    @property
    def params(self) -> Mapping[str, Any]:
        """The configuration."""
        return self.explored.params

    def document(self) -> dict[str, Any]:
        """The document of ``aiq best --format json``."""
        metrics = self.record.metrics
        return {
            "study": self.record.key.study,
            "phase": str(self.phase),
            "trial": self.trial,
            "params": dict(self.params),
            "metrics": {
                "explored": {name: self.explored.metrics[name] for name in HEADLINE},
                "validation": {name: spread.document() for name, spread in self.validation.items()},
                "test": {name: spread.document() for name, spread in self.test.items()},
            },
            "collapse_rate": self.collapse_rate,
            "parameters": int(metrics["parameters"]),
            "parameters_weights": int(metrics["parameters_weights"]),
            "macs": int(metrics["macs"]),
            "feasible": self.feasible,
        }


def score(objective: ObjectiveOptions, record: TrialRecord) -> float:
    """The number that a trial is ranked by, larger is better."""
    name, sign = ranking(objective)
    return sign * record.scored[name]


def rank_key(objective: ObjectiveOptions, record: TrialRecord) -> tuple[bool, float, int]:
    """Sorts the best first: feasible, then by score, then the earliest."""
    return (not record.feasible, -score(objective, record), record.key.number)


def _complete(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.state is TrialState.COMPLETE]


def choose_finalists(space: SearchSpace, records: Iterable[TrialRecord], count: int) -> list[TrialRecord]:
    """The best feasible exploring trials, each configuration once."""
    ranked = sorted(
        (record for record in _complete(records) if record.feasible and not record.collapsed),
        key=lambda record: rank_key(space.objective, record),
    )
    distinct = {record.config_hash: record for record in reversed(ranked)}
    return [record for record in ranked if distinct[record.config_hash] is record][:count]


def name_finalists(
    space: SearchSpace, explored: Mapping[int, TrialRecord], confirmed: Sequence[TrialRecord]
) -> list[int]:
    """Numbers of the exploring trials to confirm: the best, and those whom all their seeds have shown.

    One lucky seed of a later trial must not drive out what was confirmed before. A configuration stands
    there once.
    """
    judges = Counter(r.origin for r in _over(confirmed) if (r.replicate or 0) < space.confirm.seeds)
    shown = [number for number in explored if judges[number] >= space.confirm.seeds]
    of_config = {explored[number].config_hash: number for number in shown}
    best = choose_finalists(space, explored.values(), space.confirm.finalists)
    return list(dict.fromkeys([*(of_config.get(r.config_hash, r.key.number) for r in best), *shown]))


def most_accurate(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The exploring trial with the highest validation accuracy; the smaller network if several."""
    complete = [record for record in _complete(records) if record.key.phase is Phase.EXPLORE]
    return max(complete, key=lambda r: (r.metrics["accuracy"], -r.metrics["parameters"]), default=None)


def choose_champion(
    space: SearchSpace,
    explored: Sequence[TrialRecord],
    confirmed: Sequence[TrialRecord],
    finalists: Sequence[int],
) -> Champion:
    """The champion as far as a study has come.

    Args:
        space: The space.
        explored: Exploring trials.
        confirmed: Confirmations.
        finalists: Numbers of the exploring trials under confirmation.

    Returns:
        The feasible finalist with the best mean over its seeds, once all have been confirmed; until
        then the best feasible exploring trial.

    Raises:
        NothingFeasibleError: There is no such trial; the message says how near the search came.
    """
    seeds = space.confirm.seeds
    judges = [r.origin for r in _over(confirmed) if (r.replicate or 0) < seeds]
    if not finalists or any(judges.count(number) < seeds for number in finalists):
        return _best_explored(space, explored)
    usable = [c for c in judge_finalists(space, explored, confirmed, finalists) if c.feasible]
    if not usable:
        raise NothingFeasibleError(
            f"none of the {len(finalists)} finalists meets {_all(space.objective.number_constraints)} on "
            "average over its fresh seeds; relax the constraint, or search longer."
        )
    return max(usable, key=lambda c: (c.validation["objective"].mean, -c.trial))


def judge_finalists(
    space: SearchSpace,
    explored: Sequence[TrialRecord],
    confirmed: Sequence[TrialRecord],
    finalists: Iterable[int],
) -> list[Champion]:
    """Each finalist as its fresh seeds show it so far, in the order in which they were found.

    Arguments are those of ``choose_champion``. Finalists of whom no judging seed worked are left out.
    """
    by_origin: dict[int | None, list[TrialRecord]] = defaultdict(list)
    for record in _over(confirmed):
        by_origin[record.origin].append(record)
    worst = _worst_score(space.objective, [*explored, *confirmed])
    chosen = set(finalists)
    judged = [
        _confirmed(space, record, by_origin[record.key.number], space.confirm.seeds, worst)
        for record in explored
        if record.key.number in chosen
    ]
    return [champion for champion in judged if champion is not None]


def _over(confirmed: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The confirmations that count: they have ended, and were not run again."""
    return [record for record in without_retried(confirmed) if record.finished]


def _best_explored(space: SearchSpace, explored: Sequence[TrialRecord]) -> Champion:
    best = choose_finalists(space, explored, 1)
    if not best:
        raise NothingFeasibleError(_how_near(space, explored))
    record = best[0]
    numbers = {**record.scored, "objective": score(space.objective, record)}
    validation = {name: Spread.of([numbers[name]]) for name in (*HEADLINE, "objective")}
    return Champion(explored=record, record=record, validation=validation)


def _confirmed(
    space: SearchSpace, explored: TrialRecord, records: Sequence[TrialRecord], seeds: int, worst: float
) -> Champion | None:
    """One finalist, judged by its first seeds and reported on the others; None if none worked.

    A seed that failed has the score ``worst``.
    """
    complete = _complete(records)
    judges = [r for r in records if (r.replicate or 0) < seeds]
    if not complete or not judges:
        return None
    means = _means(judges)
    validation = {name: Spread.of([_scored(r, name) for r in judges]) for name in HEADLINE}
    scores = [score(space.objective, r) if r.state is TrialState.COMPLETE else worst for r in judges]
    validation["objective"] = Spread.of(scores)
    fresh = [r for r in records if (r.replicate or 0) >= seeds]
    test = {
        name: Spread.of([0.0 if r.collapsed else r.metrics.get(f"test/{name}", 0.0) for r in fresh])
        for name in HEADLINE
        if fresh
    }
    return Champion(
        explored=explored,
        record=max(complete, key=lambda r: (_scored(r, "aiq"), -r.key.number)),
        validation=validation,
        test=test,
        collapse_rate=sum(r.collapsed or r.state is TrialState.FAIL for r in records) / len(records),
        feasible=feasible(space.objective.number_constraints, means),
        judges=judges,
        further=fresh,
    )


def _worst_score(objective: ObjectiveOptions, records: Iterable[TrialRecord]) -> float:
    """The score of a training that failed: that of a collapse, or the worst seen where less is better."""
    directions = [direction for _, direction in objective.directions]
    if directions != ["minimize"]:
        return 0.0
    return min((score(objective, record) for record in _complete(records)), default=0.0)


def _scored(record: TrialRecord, name: str) -> float:
    """A number to judge by; a training that failed is as good as one that collapsed."""
    return record.scored[name] if record.state is TrialState.COMPLETE else 0.0


def _means(records: Sequence[TrialRecord]) -> dict[str, float]:
    """Means over seeds by which feasibility is judged; a seed that failed was good at nothing."""
    complete = _complete(records)
    means = {}
    for name in {name for record in complete for name in record.metrics}:
        counted = [r.scored[name] for r in complete if name in r.metrics]
        means[name] = sum(counted) / (len(counted) + (len(records) - len(complete) if is_merit(name) else 0))
    return means


def _how_near(space: SearchSpace, explored: Sequence[TrialRecord]) -> str:
    complete = _complete(explored)
    if not complete:
        return "no trial is complete yet, so there is no champion."
    constraints = space.objective.number_constraints
    if not constraints:
        return (
            f"each of the {len(complete)} complete trials collapsed; lower the learning rate, or widen "
            "the networks."
        )
    nearest = min(complete, key=lambda r: sum(max(0.0, c.violation(r.scored)) for c in constraints))
    names = sorted({c.name for c in constraints})
    reached = ", ".join(f"{name} = {nearest.scored.get(name, 0):.4g}" for name in names)
    return (
        f"none of the {len(complete)} complete trials meets {_all(constraints)}; nearest is trial "
        f"{nearest.key.number} with {reached}. Relax the constraint, widen the ranges, or search longer."
    )


def _all(constraints: Sequence[Constraint]) -> str:
    return " and ".join(str(constraint) for constraint in constraints) or "being more than collapsed"
