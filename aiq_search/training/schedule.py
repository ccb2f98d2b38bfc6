"""The step size of each step of a training."""

from __future__ import annotations

import math

from aiq_search.training.options import TrainingOptions

__all__ = ["learning_rates"]

# One cycle as Smith and Topin (2018) have it, with torch's defaults: the share of all steps in which the step
# size rises, and by how much the first and the last are smaller than the largest.
_RISING = 0.3
_FIRST = 1 / 25
_LAST = _FIRST / 1e4


def learning_rates(options: TrainingOptions, epoch: int, batches: int) -> list[float]:
    """The step size of each step of an epoch.

    Args:
        options: How the network is trained.
        epoch: From 0.
        batches: Of an epoch, each of which is a step.

    Example:
        >>> learning_rates(TrainingOptions(learning_rate=0.1, warmup=0.5), 0, 4)
        [0.05, 0.1, 0.1, 0.1]
    """
    first, warmup = epoch * batches, options.warmup * batches
    rates = []
    for step in range(first, first + batches):
        rate = options.learning_rate * _share(options, epoch, step, options.epochs * batches)
        rates.append(rate * min(1.0, (step + 1) / warmup) if warmup else rate)
    return rates


def _share(options: TrainingOptions, epoch: int, step: int, steps: int) -> float:
    """The step size before any warm-up, as a share of the largest."""
    if options.schedule == "cosine":
        return (1 + math.cos(math.pi * epoch / options.epochs)) / 2
    if options.schedule == "one_cycle":
        top = _RISING * steps - 1
        if step <= top:
            return _between(_FIRST, 1.0, step / top)
        return _between(1.0, _LAST, (step - top) / (steps - 1 - top))
    return 1.0


def _between(start: float, end: float, share: float) -> float:
    """From one number to another along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
