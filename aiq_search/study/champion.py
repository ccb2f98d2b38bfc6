"""Who wins: finalists, champion, and the most accurate trial beside it."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiq_search.errors import NothingFeasibleError
from aiq_search.space import Constraint, SearchSpace
from aiq_search.space.constraint import feasible
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.metrics import HEADLINE
from aiq_search.study.posterior import Posterior
from aiq_search.study.race import Race
from aiq_search.study.record import TrialRecord, without_retried
from aiq_search.study.score import mean_metrics, rank_key, score, worst_score

__all__ = [
    "Champion",
    "Spread",
    "choose_champion",
    "choose_finalists",
    "judge_cell",
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
        collapse_rate: Fraction of its confirmations, or replicates, that collapsed or failed.
        feasible: Whether the means meet every constraint.
        judges: The confirmations, or replicates of a grid's cell, that ``validation`` is of.
        further: Those that ``test`` is of.
        score: Estimate of its mean score over seeds, by which finalists are compared, and its standard
            error: in a race the posterior, else the mean over fresh seeds. None without confirmation.
    """

    explored: TrialRecord
    record: TrialRecord
    validation: Mapping[str, Spread]
    test: Mapping[str, Spread] = field(default_factory=dict)
    collapse_rate: float = 0.0
    feasible: bool = True
    judges: Sequence[TrialRecord] = ()
    further: Sequence[TrialRecord] = ()
    score: Posterior | None = None

    @property
    def trial(self) -> int:
        """Number of the exploring trial."""
        return self.explored.key.number

    @property
    def mean(self) -> float:
        """The number by which finalists are compared; larger is better."""
        return self.validation["objective"].mean if self.score is None else self.score.mean

    def lead_over(self, other: Champion) -> Posterior:
        """By how much its mean score is better than another's, and the standard error of that."""
        errors = [each.score.sd if each.score is not None else 0.0 for each in (self, other)]
        return Posterior(self.mean - other.mean, math.hypot(*errors))

    def ties_with(self, other: Champion) -> bool:
        """Whether another cannot be told from it: worse by at most one standard error of the difference."""
        lead = self.lead_over(other)
        return lead.mean <= lead.sd

    @property
    def title(self) -> str:
        """What to call it: champion only where fresh seeds confirmed it."""
        return "champion" if self.judges else "best so far"

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
    seeds = space.confirm.seeds
    judges = Counter(r.origin for r in _over(confirmed) if (r.replicate or 0) < seeds)
    shown = [number for number in explored if judges[number] >= seeds]
    of_config = {explored[number].config_hash: number for number in shown}
    best = choose_finalists(space, explored.values(), space.confirm.finalists or 0)
    return list(dict.fromkeys([*(of_config.get(r.config_hash, r.key.number) for r in best), *shown]))


def most_accurate(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The complete trial with the highest validation accuracy; the smaller network if several."""
    complete = _complete(records)
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
        The champion among the finalists once the fresh seeds have decided; until then the best feasible
        exploring trial.

    Raises:
        NothingFeasibleError: There is no such trial; the message says how near the search came.
    """
    if not finalists or not _decided(space, explored, confirmed, finalists):
        return _best_explored(space, explored)
    eligible = [c for c in judge_finalists(space, explored, confirmed, finalists) if is_eligible(space, c)]
    if not eligible:
        raise NothingFeasibleError(
            f"none of the {len(finalists)} finalists meets {_all(space.objective.number_constraints)} on "
            "average over its fresh seeds; relax the constraint, or search longer."
        )
    return break_tie(space, eligible)


def _decided(
    space: SearchSpace,
    explored: Sequence[TrialRecord],
    confirmed: Sequence[TrialRecord],
    finalists: Sequence[int],
) -> bool:
    """Whether every fresh seed that decides has ended."""
    if space.confirm.races:
        return Race(space, explored, confirmed).over
    seeds = space.confirm.seeds
    judges = Counter(r.origin for r in _over(confirmed) if (r.replicate or 0) < seeds)
    return all(judges[number] >= seeds for number in finalists)


def is_eligible(space: SearchSpace, finalist: Champion) -> bool:
    """Whether a finalist may become the champion: feasible on average, over enough fresh seeds."""
    return finalist.feasible and (not space.confirm.races or len(finalist.judges) >= space.confirm.needed)


def break_tie(space: SearchSpace, eligible: Sequence[Champion]) -> Champion:
    """The champion among eligible finalists, by ``confirm.ties``."""
    best = max(eligible, key=lambda c: (c.mean, -c.trial))
    if space.confirm.ties == "best":
        return best
    tied = [finalist for finalist in eligible if best.ties_with(finalist)]
    return min(tied, key=lambda c: (c.record.metrics["parameters"], -c.mean, c.trial))


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
    worst = worst_score(space.objective, [*explored, *confirmed])
    chosen = set(finalists)
    judged = [
        _judged(space, record, by_origin[record.key.number], worst, space.confirm.judging)
        for record in explored
        if record.key.number in chosen
    ]
    known = [finalist for finalist in judged if finalist is not None]
    if space.confirm.races:
        scores = {c.trial: c.score for c in Race(space, explored, confirmed).contenders}
    else:
        scores = _plain_means(known)
    return [replace(finalist, score=scores.get(finalist.trial)) for finalist in known]


def _plain_means(finalists: Sequence[Champion]) -> dict[int, Posterior]:
    """Means over fresh seeds with their standard errors, by the variance pooled over finalists."""
    spreads = {c.trial: c.validation["objective"] for c in finalists}
    freedom = sum(spread.n - 1 for spread in spreads.values())
    variance = sum(s.sd**2 * (s.n - 1) for s in spreads.values()) / freedom if freedom else 0.0
    return {trial: Posterior(s.mean, math.sqrt(variance / s.n)) for trial, s in spreads.items()}


def _over(confirmed: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The confirmations that count: they have ended, and were not run again."""
    return [record for record in without_retried(confirmed) if record.finished]


def _best_explored(space: SearchSpace, explored: Sequence[TrialRecord]) -> Champion:
    if space.search.replicates > 1:
        return _best_cell(space, explored)
    best = choose_finalists(space, explored, 1)
    if not best:
        raise NothingFeasibleError(_how_near(space, explored))
    record = best[0]
    numbers = {**record.scored, "objective": score(space.objective, record)}
    names = (*HEADLINE, *space.objective.measures, *space.objective.costs, "objective")
    validation = {name: Spread.of([numbers[name]]) for name in names}
    return Champion(explored=record, record=record, validation=validation)


def judge_cell(space: SearchSpace, records: Iterable[TrialRecord]) -> Champion | None:
    """A cell of a grid as its replicates show it so far; None if none worked, or all collapsed.

    Args:
        space: The space.
        records: The trials of one configuration. A failed one is scored as a collapse, or, where less is
            better, as the cell's worst.
    """
    over = _over(records)
    complete = _complete(over)
    if all(record.collapsed for record in complete):
        return None
    first = min(complete, key=lambda record: record.key.number)
    worst = worst_score(space.objective, complete)
    return _judged(space, first, over, worst, space.search.replicates)


def _best_cell(space: SearchSpace, explored: Sequence[TrialRecord]) -> Champion:
    """The best mean over replicates, among the cells that have them all, if there are such."""
    cells: dict[str, list[TrialRecord]] = defaultdict(list)
    for record in _over(explored):
        cells[record.config_hash].append(record)
    whole = [cell for cell in cells.values() if len(cell) >= space.search.replicates]
    judged = [judge_cell(space, cell) for cell in whole or cells.values()]
    eligible = [cell for cell in judged if cell is not None and cell.feasible]
    if not eligible:
        raise NothingFeasibleError(_how_near(space, explored))
    return max(eligible, key=lambda cell: (cell.mean, -cell.trial))


def _judged(
    space: SearchSpace,
    explored: TrialRecord,
    records: Sequence[TrialRecord],
    worst: float,
    judging: int,
) -> Champion | None:
    """One configuration, judged by its first seeds and reported on the others; None if none worked.

    A seed that failed has the score ``worst``.
    """
    complete = _complete(records)
    judges = [r for r in records if (r.replicate or 0) < judging]
    if not complete or not judges:
        return None
    names = (*HEADLINE, *space.objective.measures, *space.objective.confirmed_measures)
    validation = {name: Spread.of([_scored(r, name) for r in judges]) for name in names}
    scores = [score(space.objective, r) if r.state is TrialState.COMPLETE else worst for r in judges]
    if worked := _complete(judges):
        validation |= {n: Spread.of([r.metrics[n] for r in worked]) for n in space.objective.costs}
    validation["objective"] = Spread.of(scores)
    fresh = [r for r in records if (r.replicate or 0) >= judging]
    test = {
        name: Spread.of([0.0 if r.collapsed else r.metrics.get(f"test/{name}", 0.0) for r in fresh])
        for name in names
        if fresh
    }
    return Champion(
        explored=explored,
        record=max(complete, key=lambda r: (_scored(r, "aiq"), -r.key.number)),
        validation=validation,
        test=test,
        collapse_rate=sum(r.collapsed or r.state is TrialState.FAIL for r in records) / len(records),
        feasible=feasible(space.objective.number_constraints, mean_metrics(judges)),
        judges=judges,
        further=fresh,
    )


def _scored(record: TrialRecord, name: str) -> float:
    """A number to judge by; a training that failed is as good as one that collapsed."""
    return record.scored[name] if record.state is TrialState.COMPLETE else 0.0


def _how_near(space: SearchSpace, explored: Sequence[TrialRecord]) -> str:
    complete = _complete(explored)
    if not complete:
        return f"no trial is complete yet, so there is no champion{_commonest_failure(explored)}"
    constraints = space.objective.number_constraints
    if not constraints:
        return (
            f"each of the {len(complete)} complete trials collapsed; lower the learning rate, or widen "
            "the networks."
        )
    nearest = min(complete, key=lambda r: sum(max(0.0, c.violation(r.scored)) for c in constraints))
    names = sorted({c.judged(nearest.scored) for c in constraints})
    reached = ", ".join(f"{name} = {nearest.scored.get(name, 0):.4g}" for name in names)
    return (
        f"none of the {len(complete)} complete trials meets {_all(constraints)}; nearest is trial "
        f"{nearest.key.number} with {reached}. Relax the constraint, widen the ranges, or search longer."
    )


def _commonest_failure(explored: Sequence[TrialRecord]) -> str:
    """The end of a sentence: why most of the failed trials failed."""
    failed = [r for r in explored if r.state is TrialState.FAIL]
    if not failed:
        return "."
    reason, count = Counter(r.reason or "without a reason" for r in failed).most_common(1)[0]
    example = next(r for r in failed if (r.reason or "without a reason") == reason)
    return (
        f"; {len(failed)} of {len(explored)} failed, {count} of them with: {reason} "
        f"(`aiq trials {example.key.study} --trial {example.key.number}` shows one)."
    )


def _all(constraints: Sequence[Constraint]) -> str:
    return " and ".join(str(constraint) for constraint in constraints) or "being more than collapsed"
