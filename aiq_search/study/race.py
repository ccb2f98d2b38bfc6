"""The race for the championship: whose configuration is trained next on a fresh seed, and who leads.

The best explored configurations are contenders, also where the pruner stopped them: then what completed
trials gained after that epoch is added to a trial's value, and how much that varied to its variance. What is
known of a contender's mean is its posterior (see ``posterior``): the exploring trial is one observation, and
each fresh seed is another.

The next seed goes to the contender that may be best: the one with the highest posterior mean plus one
standard deviation (an upper confidence bound, as in Srinivas et al., 2010). irace and SMAC race on fresh
seeds too, but use neither what exploring has shown nor what similar configurations have. Where sizes or
latencies are compared, which training does not change, it goes to the contender with the highest expected
gain (constrained expected improvement; Gardner et al., 2014).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from aiq_search.space import Constraint, SearchSpace
from aiq_search.space.constraint import feasible
from aiq_search.study.events import TrialState
from aiq_search.study.metrics import EXACT, UNTRAINED
from aiq_search.study.posterior import (
    Observation,
    Posterior,
    posteriors,
    sd_after,
    similarities,
    variance,
    variance_over_seeds,
)
from aiq_search.study.progress import ranking
from aiq_search.study.record import TrialRecord, without_retried
from aiq_search.study.score import mean_metrics, score, worst_score

__all__ = ["Contender", "Race"]

# How many contenders there are at most: the best as exploring has shown them.
_MOST = 100

# A number of a record, for example its score.
_Quantity = Callable[[TrialRecord], float]


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
        needed: How many fresh seeds a champion has at least.
    """

    explored: TrialRecord
    seeds: Sequence[TrialRecord]
    started: int
    score: Posterior
    optimism: float
    violations: Sequence[Posterior]
    feasible: bool | None
    needed: int

    @property
    def trial(self) -> int:
        """Number of the exploring trial."""
        return self.explored.key.number

    @property
    def may_be_feasible(self) -> bool:
        """Whether no constraint is missed by more than a standard deviation of the posterior."""
        return all(violation.mean - violation.sd <= 0 for violation in self.violations)

    @property
    def chance(self) -> float:
        """The probability that its means meet every constraint."""
        return math.prod(_below_zero(violation) for violation in self.violations)

    @property
    def eligible(self) -> bool:
        """Whether it may become the champion."""
        return self.feasible is True and len(self.seeds) >= self.needed


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
        self._needed = space.confirm.needed
        exact = [c for c in space.objective.number_constraints if c.name in EXACT]
        noisy = [c for c in space.objective.number_constraints if c.name not in EXACT]
        judges = [r for r in without_retried(confirmed) if (r.replicate or 0) < self._runs]
        started = Counter(r.origin for r in judges)
        started.update(queued)
        allowed = [record for record in explored if feasible(exact, record.metrics)]
        if space.search.pruner.name == "pareto":  # smaller ones were better: nothing to be gained
            allowed = [record for record in allowed if record.state is not TrialState.PRUNED]
        completed = [r for r in allowed if r.state is TrialState.COMPLETE and r.copied_from is None]
        worst = worst_score(space.objective, [*completed, *judges])

        def scored(record: TrialRecord) -> float:
            return worst if record.state is TrialState.FAIL else score(space.objective, record)

        entrants = _entrants(allowed, started, _Shown(scored, completed))
        seeds = {number: [r for r in judges if r.origin == number and r.finished] for number in entrants}

        def numbers(quantity: _Quantity) -> tuple[list[Observation], list[list[float]]]:
            shown = _Shown(quantity, completed)
            fresh = [[quantity(r) for r in seeds[number]] for number in entrants]
            return [shown(record) for record in entrants.values()], fresh

        shown, fresh = numbers(scored)
        spread = variance_over_seeds(shown, fresh)
        alike = similarities(space, [record.params for record in entrants.values()])
        scores = posteriors(shown, fresh, alike)
        ranked_by, _ = ranking(space.objective)
        self._untrained = ranked_by in UNTRAINED
        if ranked_by in EXACT:
            scores = [Posterior(observation.value, 0.0) for observation in shown]  # no seed changes them
        violations = [posteriors(*numbers(partial(_violation, constraint)), alike) for constraint in noisy]
        standing = []
        for index, (number, record) in enumerate(entrants.items()):
            under_way = started[number] - len(seeds[number])
            standing.append(
                Contender(
                    record,
                    seeds[number],
                    started[number],
                    scores[index],
                    sd_after(scores[index].sd, under_way, spread),
                    [each[index] for each in violations],
                    feasible(noisy, mean_metrics(seeds[number])) if seeds[number] else None,
                    self._needed,
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
            return max(running, key=lambda c: (self._promise(c), -c.trial), default=None)
        # The favourite needs enough seeds. Should these refute it, the next one takes its place, but not
        # for ever: a study whose constraints can hardly be met has to end too.
        if self.started >= self._runs + 2 * self._needed:
            return None
        hopeful = [c for c in running if c.feasible is not False]
        favourite = (
            max(hopeful, key=self._promise, default=None) if self._untrained else next(iter(hopeful), None)
        )
        return favourite if favourite is not None and favourite.started < self._needed else None

    def _promise(self, contender: Contender) -> float:
        """How much a fresh seed of a contender promises.

        Of sizes and latencies this is the expected gain over the leader, or over the largest contender: by
        how much it is smaller, times the probability that it meets the constraints. Seeds under way share it.
        """
        if not self._untrained:
            return contender.score.mean + contender.optimism
        beaten = self.leader.score.mean if self.leader else self.contenders[-1].score.mean - 1
        waiting = contender.started - len(contender.seeds)
        return (contender.score.mean - beaten) * contender.chance / (1 + waiting)

    def _is_decided(self, leader: Contender) -> bool:
        """Whether more seeds would hardly change who leads."""
        rivals = (c for c in self.contenders if c is not leader and c.may_be_feasible)
        return all(v.mean + v.sd <= 0 for v in leader.violations) and all(
            rival.score.mean + rival.score.sd <= leader.score.mean for rival in rivals
        )


def _below_zero(posterior: Posterior) -> float:
    """The probability that a mean is at most 0."""
    if posterior.sd == 0:
        return float(posterior.mean <= 0)
    return statistics.NormalDist(posterior.mean, posterior.sd).cdf(0.0)


class _Shown:
    """What exploring has shown of a trial: a whole training, or what a pruned one would have come to.

    Args:
        quantity: The number in question.
        completed: Trials that trained to their end.
    """

    def __init__(self, quantity: _Quantity, completed: Sequence[TrialRecord]) -> None:
        self._quantity = quantity
        self._completed = completed
        self._gains: dict[int, Observation] = {}

    def __call__(self, record: TrialRecord) -> Observation:
        value = self._quantity(record)
        if record.state is TrialState.COMPLETE:
            return Observation(value, 0.0)
        if record.epochs not in self._gains:
            self._gains[record.epochs] = self._gain_after(record.epochs)
        gain = self._gains[record.epochs]
        return Observation(value + gain.value, gain.variance)

    def _gain_after(self, epochs: int) -> Observation:
        gains = [
            self._quantity(record) - self._quantity(record.until(epochs))
            for record in self._completed
            if len(record.history.get("loss", ())) >= epochs
        ]
        return Observation(statistics.fmean(gains), variance(gains)) if gains else Observation(0.0, 0.0)


def _entrants(
    explored: Iterable[TrialRecord], started: Mapping[int | None, int], shown: _Shown
) -> dict[int, TrialRecord]:
    """Exploring trials by number: those with fresh seeds, and the best others.

    Each configuration is in the race once: with the trial that has fresh seeds, or ran longest.
    """
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
    best = sorted(of_config.values(), key=lambda r: (-started[r.key.number], -shown(r).value, r.key.number))
    return {record.key.number: record for record in best[:_MOST]}


def _violation(constraint: Constraint, record: TrialRecord) -> float:
    """By how much a training misses a constraint; one that failed was good at nothing."""
    failed = record.state is TrialState.FAIL
    return constraint.violation(mean_metrics([record]) if failed else record.scored)
