"""What trainings say of configurations' means over seeds: a Gaussian process with noise.

A number of a training is its configuration's mean plus the luck of its seed. Both are modelled as normal,
with one variance over seeds for all, so the means have a posterior in closed form. In the prior, means vary
as much as what exploring has shown of them, and similar configurations have similar means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.space import SearchSpace
from aiq_search.space.parameters import Categorical, Derived

__all__ = [
    "Observation",
    "Posterior",
    "posteriors",
    "sd_after",
    "similarities",
    "variance",
    "variance_over_seeds",
]

# Before any contender has two fresh seeds, the variance over seeds is taken as this share of the variance
# over contenders, with the weight of so many degrees of freedom.
_PRIOR_SHARE = 0.25
_PRIOR_FREEDOM = 4

# Correlation of two configurations' means: exp(-6 times their mean squared distance over parameters, each
# scaled to [0, 1]), and a share of the variance that no other configuration has. Chosen by replays of LeNet-5
# searches with seeds from 1000 on (docs/quality.md), where .3 to 1 of this length did equally well.
_STEEPNESS = 6.0
_OWN_SHARE = 0.3


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


def variance_over_seeds(shown: Sequence[Observation], fresh: Sequence[Sequence[float]]) -> float:
    """Variance of a number over seeds, pooled over contenders; never 0.

    Args:
        shown: What exploring has shown of each contender.
        fresh: Each contender's values on fresh seeds.
    """
    repeated = [values for values in fresh if len(values) > 1]
    squares = sum(statistics.pvariance(values) * len(values) for values in repeated)
    freedom = sum(len(values) - 1 for values in repeated)
    prior = _PRIOR_SHARE * variance([observation.value for observation in shown])
    return (_PRIOR_FREEDOM * prior + squares) / (_PRIOR_FREEDOM + freedom)


def posteriors(
    shown: Sequence[Observation],
    fresh: Sequence[Sequence[float]],
    similarity: NDArray[np.float64] | None = None,
) -> list[Posterior]:
    """Each contender's mean over seeds.

    Args:
        shown: What exploring has shown of each contender.
        fresh: Each contender's values on fresh seeds.
        similarity: Correlations of the contenders' means, ``(n, n)``; by default they have none.

    Example:
        One seed moves the favourite less than its own luck would suggest.

        >>> shown = [Observation(0.88, 0.0), Observation(0.80, 0.0), Observation(0.78, 0.0)]
        >>> best, *_ = posteriors(shown, [[0.84], [], []])
        >>> 0.84 < best.mean < 0.88
        True
    """
    if not shown:
        return []
    values = np.array([observation.value for observation in shown])
    spread = variance_over_seeds(shown, fresh)
    between = max(variance(values.tolist()) - spread, _PRIOR_SHARE * spread)
    prior = between * (np.eye(len(shown)) if similarity is None else similarity)
    noise = spread + np.array([observation.variance for observation in shown])
    precision = 1 / noise + np.array([len(seeds) for seeds in fresh]) / spread
    # All that was seen of a contender, as one observation.
    seen = (values / noise + np.array([sum(seeds) for seeds in fresh]) / spread) / precision
    gain = np.linalg.solve(prior + np.diag(1 / precision), prior)
    means = values.mean() + gain.T @ (seen - values.mean())
    variances = np.maximum(np.diag(prior) - (prior * gain).sum(axis=0), 0.0)
    return [Posterior(float(mean), math.sqrt(v)) for mean, v in zip(means, variances, strict=True)]


def similarities(space: SearchSpace, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """How alike the means of configurations should be: a squared exponential, and a share of their own.

    Args:
        space: The space; it says where a value lies in its range.
        configurations: Values by dotted name.

    Returns:
        Correlations, ``(n, n)``.
    """
    squares = np.zeros((len(configurations), len(configurations)))
    searched = {n: p for n, p in space.parameters.items() if not isinstance(p, Derived)}
    for name, parameter in searched.items():
        there = np.array([name in params for params in configurations])
        at = np.array(
            [parameter.position(params[name]) if name in params else 0.0 for params in configurations]
        )
        apart = np.abs(at[:, None] - at[None])
        if isinstance(parameter, Categorical):
            apart = (apart > 0).astype(float)
        squares += np.where(there[:, None] == there[None], apart, 1.0) ** 2
    alike = np.exp(-_STEEPNESS * squares / max(1, len(searched)))
    return (1 - _OWN_SHARE) * alike + _OWN_SHARE * np.eye(len(configurations))


def variance(values: Sequence[float]) -> float:
    """Variance of a sample, bounded from below so that equal numbers can be divided by it."""
    floor = (1e-6 * max(1.0, *map(abs, values))) ** 2 if values else 1.0
    return max(statistics.variance(values), floor) if len(values) > 1 else floor


def sd_after(sd: float, seeds: int, variance: float) -> float:
    """Standard deviation of a posterior once some more seeds have been seen."""
    return math.sqrt(1 / (1 / sd**2 + seeds / variance)) if sd > 0 else 0.0
