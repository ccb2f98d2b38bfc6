"""The race for the championship: what all trainings so far say of each configuration.

A training's score is its configuration's mean plus the luck of its seed. Both are modelled as normal, with
one variance over seeds for all contenders, so each mean has a posterior in closed form: the prior is the
spread of the contenders, the exploring trial is one observation, and each fresh seed is another. A trial that
the pruner stopped is a contender too: what completed trials gained after that epoch is added to its value,
and how much that varied to its variance.

The next fresh seed goes to the contender that may be best: the one with the highest posterior mean plus one
standard deviation (an upper confidence bound, as in Srinivas et al., 2010). irace and SMAC race on fresh
seeds too, but use nothing of what exploring has shown.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from aiq_search.space import Constraint, SearchSpace
from aiq_search.space.constraint import feasible
from aiq_search.study.events import TrialState
from aiq_search.study.record import TrialRecord, without_retried
from aiq_search.study.score import SIZES, mean_metrics, score, worst_score

__all__ = ["MIN_SEEDS", "Contender", "Observation", "Posterior", "Race", "posteriors", "variance_over_seeds"]

# A champion has at least this many fresh seeds, however short the race.
MIN_SEEDS = 3

# Before any contender has two fresh seeds, the variance over seeds is taken as this share of the variance
# over contenders, with the weight of so many degrees of freedom.
_PRIOR_SHARE = 0.25
_PRIOR_FREEDOM = 4

# A number of a record, for example its score.
_Quantity = Callable[[TrialRecord], float]


@dataclass(frozen=True)
class Posterior:
    """What is known of a contender's mean over seeds.

    Attributes:
        mean: Its expectation.
        sd: Its standard deviation.
    """

    mean: float
    sd: float


@dataclass(frozen=True)
class Observation:
    """What exploring has shown of a contender: a value, and a variance on top of that over seeds."""

    value: float
    variance: float


@dataclass(frozen=True)
class Contender:
    """A configuration in the race.

    Attributes:
        explored: The exploring trial that found it.
        seeds: Its finished trainings on fresh seeds.
        started: How many fresh seeds it was given, with those still waiting or in training.
        score: Posterior of its mean score; larger is better.
        optimism: Standard deviation that ``score`` will have once the seeds under way have ended.
        violations: Posterior of its mean violation of each constraint; at most 0 where it is met.
        feasible: Whether its means over fresh seeds meet the constraints; None before the first.
    """

    explored: TrialRecord
    seeds: Sequence[TrialRecord]
    started: int
    score: Posterior
    optimism: float
    violations: Sequence[Posterior]
    feasible: bool | None

    @property
    def trial(self) -> int:
        """Number of the exploring trial."""
        return self.explored.key.number

    @property
    def may_be_feasible(self) -> bool:
        """Whether no constraint is missed by more than a standard deviation of the posterior."""
        return all(violation.mean - violation.sd <= 0 for violation in self.violations)

    @property
    def eligible(self) -> bool:
        """Whether it may become the champion."""
        return self.feasible is True and len(self.seeds) >= MIN_SEEDS


class Race:
    """Who leads, and which configuration is trained next on a fresh seed.

    Everything follows from the records, so an interrupted race continues where it was.

    Args:
        space: The space; ``confirm.runs`` is the length of the race.
        explored: Exploring trials.
        confirmed: Confirmations; those with a replicate of ``confirm.runs`` or more come after the race.
        queued: The exploring trial of each confirmation that waits.

    Attributes:
        contenders: The best first, by posterior mean.
    """

    def __init__(
        self,
        space: SearchSpace,
        explored: Iterable[TrialRecord],
        confirmed: Iterable[TrialRecord],
        queued: Iterable[int] = (),
    ) -> None:
        self._runs = space.confirm.judging
        exact = [c for c in space.objective.number_constraints if c.name in SIZES]
        noisy = [c for c in space.objective.number_constraints if c.name not in SIZES]
        judges = [r for r in without_retried(confirmed) if (r.replicate or 0) < self._runs]
        started = Counter(r.origin for r in judges)
        started.update(queued)
        entrants = _entrants((r for r in explored if feasible(exact, r.metrics)), started)
        seeds = {number: [r for r in judges if r.origin == number and r.finished] for number in entrants}
        completed = [r for r in entrants.values() if r.state is TrialState.COMPLETE]
        worst = worst_score(space.objective, [*completed, *judges])

        def numbers(quantity: _Quantity) -> tuple[list[Observation], list[list[float]]]:
            shown = [_shown(record, quantity, completed) for record in entrants.values()]
            return shown, [[quantity(r) for r in seeds[number]] for number in entrants]

        def scored(record: TrialRecord) -> float:
            return worst if record.state is TrialState.FAIL else score(space.objective, record)

        shown, fresh = numbers(scored)
        spread = variance_over_seeds(shown, fresh)
        scores = posteriors(shown, fresh)
        if space.objective.directions[0][0] in SIZES and len(space.objective.directions) == 1:
            scores = [Posterior(observation.value, 0.0) for observation in shown]  # no seed changes them
        violations = [posteriors(*numbers(partial(_violation, constraint))) for constraint in noisy]
        standing = []
        for index, (number, record) in enumerate(entrants.items()):
            under_way = started[number] - len(seeds[number])
            standing.append(
                Contender(
                    record,
                    seeds[number],
                    started[number],
                    scores[index],
                    _with_more_seeds(scores[index].sd, under_way, spread),
                    [each[index] for each in violations],
                    feasible(noisy, mean_metrics(seeds[number])) if seeds[number] else None,
                )
            )
        self.contenders = sorted(standing, key=lambda c: (-c.score.mean, c.trial))

    @property
    def started(self) -> int:
        """How many trainings the race has begun or queued."""
        return sum(contender.started for contender in self.contenders)

    @property
    def over(self) -> bool:
        """Whether every training of the race has ended."""
        return self.next() is None and all(len(c.seeds) == c.started for c in self.contenders)

    @property
    def leader(self) -> Contender | None:
        """The eligible contender with the best mean: the champion once the race is over."""
        return next((c for c in self.contenders if c.eligible), None)

    def next(self) -> Contender | None:
        """The contender to train next on a fresh seed; None when the race is over."""
        if self.leader is not None and self._is_decided(self.leader):
            return None
        running = [c for c in self.contenders if c.may_be_feasible and c.started < self._runs]
        if self.started < self._runs:
            return max(running, key=lambda c: (c.score.mean + c.optimism, -c.trial), default=None)
        # The favourite needs enough seeds. Should these refute it, the next one takes its place, but not
        # for ever: a study whose constraints can hardly be met has to end too.
        if self.started >= self._runs + 2 * MIN_SEEDS:
            return None
        favourite = next((c for c in running if c.feasible is not False), None)
        return favourite if favourite is not None and favourite.started < MIN_SEEDS else None

    def _is_decided(self, leader: Contender) -> bool:
        """Whether more seeds would hardly change who leads."""
        rivals = (c for c in self.contenders if c is not leader and c.may_be_feasible)
        return all(v.mean + v.sd <= 0 for v in leader.violations) and all(
            rival.score.mean + rival.score.sd <= leader.score.mean for rival in rivals
        )


def _with_more_seeds(sd: float, seeds: int, variance: float) -> float:
    """Standard deviation of a posterior once some more seeds have been seen."""
    return math.sqrt(1 / (1 / sd**2 + seeds / variance)) if sd > 0 else 0.0


def variance_over_seeds(shown: Sequence[Observation], fresh: Sequence[Sequence[float]]) -> float:
    """Variance of a number over seeds, pooled over contenders; never 0.

    Args:
        shown: What exploring has shown of each contender.
        fresh: Each contender's values on fresh seeds.
    """
    repeated = [values for values in fresh if len(values) > 1]
    squares = sum(statistics.pvariance(values) * len(values) for values in repeated)
    freedom = sum(len(values) - 1 for values in repeated)
    prior = _PRIOR_SHARE * _variance([observation.value for observation in shown])
    return (_PRIOR_FREEDOM * prior + squares) / (_PRIOR_FREEDOM + freedom)


def posteriors(shown: Sequence[Observation], fresh: Sequence[Sequence[float]]) -> list[Posterior]:
    """Each contender's mean over seeds, under normal models with a common variance.

    Args:
        shown: What exploring has shown of each contender.
        fresh: Each contender's values on fresh seeds.

    Example:
        One seed moves the favourite less than its own luck would suggest.

        >>> shown = [Observation(0.88, 0.0), Observation(0.80, 0.0), Observation(0.78, 0.0)]
        >>> best, *_ = posteriors(shown, [[0.84], [], []])
        >>> 0.84 < best.mean < 0.88
        True
    """
    if not shown:
        return []
    values = [observation.value for observation in shown]
    spread = variance_over_seeds(shown, fresh)
    between = max(_variance(values) - spread, _PRIOR_SHARE * spread)
    center = statistics.fmean(values)
    result = []
    for observation, seeds in zip(shown, fresh, strict=True):
        noise = spread + observation.variance
        precision = 1 / between + 1 / noise + len(seeds) / spread
        mean = (center / between + observation.value / noise + sum(seeds) / spread) / precision
        result.append(Posterior(mean, math.sqrt(1 / precision)))
    return result


def _variance(values: Sequence[float]) -> float:
    """Variance of a sample, bounded from below so that equal numbers can be divided by it."""
    floor = (1e-6 * max(1.0, *map(abs, values))) ** 2 if values else 1.0
    return max(statistics.variance(values), floor) if len(values) > 1 else floor


def _entrants(explored: Iterable[TrialRecord], started: Mapping[int | None, int]) -> dict[int, TrialRecord]:
    """Exploring trials by number, each configuration once: the one that has fresh seeds, or ran longest."""
    usable = [
        record
        for record in explored
        if record.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and record.copied_from is None
        and record.epochs > 0
        and not record.collapsed
    ]
    usable.sort(
        key=lambda r: (-started[r.key.number], r.state is not TrialState.COMPLETE, -r.epochs, r.key.number)
    )
    of_config: dict[str, TrialRecord] = {}
    for record in usable:
        of_config.setdefault(record.config_hash, record)
    return {record.key.number: record for record in of_config.values()}


def _shown(record: TrialRecord, quantity: _Quantity, completed: Sequence[TrialRecord]) -> Observation:
    """What exploring has shown: the value of a whole training, or what the pruned one would have come to."""
    value = quantity(record)
    if record.state is TrialState.COMPLETE:
        return Observation(value, 0.0)
    gains = [quantity(r) - quantity(_until(r, record.epochs)) for r in completed if r.epochs >= record.epochs]
    if not gains:
        return Observation(value, 0.0)
    return Observation(value + statistics.fmean(gains), _variance(gains))


def _until(record: TrialRecord, epochs: int) -> TrialRecord:
    """A completed trial as it was after its first epochs."""
    losses = record.history["loss"][:epochs]
    chosen = losses.index(min(losses))
    metrics = {**record.metrics, **{name: column[chosen] for name, column in record.history.items()}}
    return replace(record, metrics=metrics, collapsed=metrics["efficiency"] == 0)


def _violation(constraint: Constraint, record: TrialRecord) -> float:
    """By how much a training misses a constraint; one that failed was good at nothing."""
    return constraint.violation(mean_metrics([record]))
