"""Rungs within the first epoch: a network that is clearly worse than the others were there is stopped.

What a network shows after an eighth of an epoch predicts its final rank only roughly, after half an epoch
well. So the first rung stops few, and later ones more: of all trials that came so far or were stopped before,
a rung at a share s of the epoch stops at most the worst 2/3 * sqrt(s), which at a whole epoch is what
successive halving with its default factor of 3 stops.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiq_search.space import SearchSpace
from aiq_search.study.events import TrialState
from aiq_search.study.metrics import is_merit
from aiq_search.study.progress import ranking
from aiq_search.study.record import TrialRecord
from aiq_search.worker.messages import RUNG_SAMPLES

if TYPE_CHECKING:
    from aiq_search.training import TrainingOptions

__all__ = ["Rungs", "is_long", "stopped_share"]

# Where an epoch is shorter, there is little to save.
_MIN_SAMPLES = 10 * RUNG_SAMPLES
_MIN_BATCHES = 40

# Trials that must have come to a rung before one is stopped there.
_ENOUGH = 4


def stopped_share(share: float) -> float:
    """Which part of all trials is stopped at a share of the first epoch or before, at most.

    >>> [round(stopped_share(share), 2) for share in (0.125, 0.25, 0.5)]
    [0.24, 0.33, 0.47]
    """
    return 2 / 3 * math.sqrt(share)


def is_long(samples: int, options: TrainingOptions) -> bool:
    """Whether an epoch of so many samples is long enough to save a part of it."""
    return samples >= max(_MIN_SAMPLES, _MIN_BATCHES * options.batch_size)


class Rungs:
    """What exploring trials have shown at each rung, and which of them stop there.

    Args:
        space: The space; its pruner has the rungs.
        samples: Size of the training split.
    """

    def __init__(self, space: SearchSpace, samples: int) -> None:
        self._name, self._sign = ranking(space.objective)
        self._samples = samples
        prunes = space.search.pruner.name in ("asha", "median")  # which rank trials by one number
        self._shares = space.search.pruner.rungs if prunes else ()
        self._scores: defaultdict[float, dict[int, float]] = defaultdict(dict)
        self._stopped: dict[int, float] = {}

    def of(self, options: TrainingOptions) -> tuple[float, ...]:
        """The rungs of a trial that is trained like this: none where an epoch is short."""
        return self._shares if is_long(self._samples, options) else ()

    def adopt(self, record: TrialRecord) -> None:
        """Take note of an earlier driver's trial."""
        for rung in record.rungs:
            self._scores[rung["share"]][record.key.number] = self._score(rung)
        if record.state is TrialState.PRUNED and record.rungs and not record.epochs:
            self._stopped[record.key.number] = record.rungs[-1]["share"]

    def value(self, metrics: Mapping[str, float]) -> float:
        """The objective at a rung; 0 where a network without merit has none."""
        collapsed = metrics["efficiency"] == 0 and is_merit(self._name)
        return 0.0 if collapsed else metrics[self._name]

    def stops(self, number: int, share: float, metrics: Mapping[str, float]) -> bool:
        """Take note of what a trial shows at a rung, and decide whether it stops there.

        Args:
            number: The trial's.
            share: Of the first epoch.
            metrics: As measured there.
        """
        own = self._score(metrics)
        scores = self._scores[share]
        scores[number] = own
        stopped = sum(before < share for before in self._stopped.values())
        if len(scores) + stopped <= _ENOUGH:
            return False
        worse = stopped + sum(score < own for score in scores.values())
        stops = worse < math.floor(stopped_share(share) * (len(scores) + stopped))
        if stops:
            self._stopped[number] = share
        return stops

    def _score(self, metrics: Mapping[str, float]) -> float:
        return self._sign * self.value(metrics)
