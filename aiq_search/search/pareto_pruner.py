"""Pruning by dominance, where no single number ranks unfinished trials.

How many parameters a network has is known before it is trained. What an unfinished trial of ``minimize:
parameters`` with ``accuracy >= 0.98`` shows is whether it may still be the smallest that is accurate enough:
hardly so if others that are no larger were more accurate after as many epochs. The same holds for several
objectives. This is successive halving by Pareto dominance (Schmucker et al., 2021, "Multi-objective
asynchronous successive halving") with a count of dominating trials in place of a share to keep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import optuna
from optuna.trial import FrozenTrial

from aiq_search.space import ObjectiveOptions

__all__ = ["ParetoPruner", "merits"]


class ParetoPruner(optuna.pruners.BasePruner):
    """Stops a trial that several others dominate: no worse in any merit, and better in one.

    Trials are compared at rungs: after ``min_resource`` epochs, and then each time ``reduction_factor`` times
    as many. What a trial has shown at its rungs stays, however it ends.

    Args:
        min_resource: Epochs until the first rung.
        reduction_factor: From one rung to the next.
        dominated_by: Stop a trial that is dominated by this many.

    Raises:
        ValueError: A number is too small.

    Example:
        >>> pruner = ParetoPruner(min_resource=3, dominated_by=1)
        >>> [pruner.stops(0, epoch, (-500, -0.02)) for epoch in (3, 9)]
        [False, False]
        >>> [pruner.stops(1, epoch, (-600, -0.03)) for epoch in (2, 3)]
        [False, True]
    """

    def __init__(self, min_resource: int = 1, reduction_factor: int = 3, dominated_by: int = 3) -> None:
        for name, value, least in (
            ("min_resource", min_resource, 1),
            ("reduction_factor", reduction_factor, 2),
            ("dominated_by", dominated_by, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} has to be a whole number of at least {least}, but is {value!r}")
        self._first = min_resource
        self._factor = reduction_factor
        self._dominated_by = dominated_by
        self._shown: defaultdict[int, dict[int, tuple[float, ...]]] = defaultdict(dict)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Never: Optuna has one number a step; the driver asks `stops`."""
        return False

    def rungs(self, epochs: int) -> Iterator[int]:
        """The rungs up to a number of epochs."""
        rung = self._first
        while rung <= epochs:
            yield rung
            rung *= self._factor

    def note(self, number: int, epoch: int, merits: tuple[float, ...]) -> None:
        """Remember what a trial has shown at a rung."""
        self._shown[epoch][number] = merits

    def stops(self, number: int, epoch: int, merits: tuple[float, ...]) -> bool:
        """Take note of what a trial shows after an epoch, and decide whether it stops there.

        Args:
            number: The trial's.
            epoch: The last that it has ended.
            merits: Of the trial as if it ended here; more is better in each.
        """
        if epoch not in self.rungs(epoch):
            return False
        self.note(number, epoch, merits)
        return sum(_dominates(other, merits) for other in self._shown[epoch].values()) >= self._dominated_by


def merits(objective: ObjectiveOptions, scored: Mapping[str, float]) -> tuple[float, ...]:
    """What trials are compared by: their objectives, and how far each constraint is missed; more is better.

    Example:
        >>> objective = ObjectiveOptions(minimize="parameters", constraints=("accuracy >= 0.98",))
        >>> merits(objective, {"parameters": 500, "accuracy": 0.96})
        (-500, -0.02)
        >>> merits(objective, {"parameters": 900, "accuracy": 0.99})
        (-900, 0.0)
    """
    return (
        *(scored[name] if way == "maximize" else -scored[name] for name, way in objective.directions),
        *(-max(0.0, round(c.violation(scored), 12)) + 0.0 for c in objective.number_constraints),
    )


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
