"""From counts of states to efficiency and aIQ: pure functions, no torch.

Schaub and Hotaling, *Assessing Efficiency in Artificial Neural Networks*, Applied Sciences 13(18):10286,
2023, doi 10.3390/app131810286.
"""

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aiq_search.errors import InputError

__all__ = ["aiq", "entropy", "layer_efficiency", "network_efficiency"]

Counts: TypeAlias = npt.ArrayLike


def entropy(counts: Counts, order: float = 1.0) -> float:
    r"""Rényi entropy of the distribution that the counts describe, in bits.

    .. math:: H_a = \frac{1}{1 - a} \log_2 \sum_i p_i^a, \qquad p_i = n_i / \sum_j n_j

    with its limits: order 1 is Shannon's entropy, order 0 the logarithm of the number of states seen,
    order infinity minus the logarithm of the largest probability.

    Args:
        counts: How often each state was seen, shape ``(states,)``; zeros are states never seen.
        order: Order ``a`` of the entropy, ``>= 0``; ``math.inf`` is allowed.

    Returns:
        Bits, ``>= 0``.

    Raises:
        InputError: A count is negative, not a number or not one-dimensional, all are zero, or the order is
            below 0.

    >>> entropy([1, 1, 1, 1])
    2.0
    >>> entropy([3, 1], order=math.inf)
    0.41503749927884376
    """
    if not order >= 0:
        raise InputError(f"The order of the entropy must be 0 or more (infinity included), but is {order}.")
    values = np.asarray(counts)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise InputError(
            f"Counts must be a one-dimensional list of numbers, but have shape {values.shape} and type "
            f"{values.dtype}."
        )
    if not (values >= 0).all() or not np.isfinite(values).all():
        raise InputError(f"Counts must be finite and 0 or more, but the smallest is {values.min()}.")
    values = values[values > 0]
    if values.size == 0:
        raise InputError("Entropy needs at least one observation, but every count is 0.")
    seen, states = multiplicities([values])
    return entropy_of(seen, states, order)


def multiplicities(
    parts: Iterable[npt.NDArray[Any]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How many states were seen how often: the counts that occur, and the number of states of each.

    A million states that were seen once are then one term of the entropy: one logarithm, and a sum of few
    terms that is exact to the last bits.

    Args:
        parts: Counts above 0, in parts.
    """
    total: dict[float, int] = {}
    for part in parts:
        if part.dtype.kind == "u" and part.dtype.itemsize <= 2:  # few values: no need to sort
            occurrences = np.bincount(part)
            values = np.flatnonzero(occurrences)
            occurrences = occurrences[values]
        else:
            values, occurrences = np.unique(part, return_counts=True)
        for seen, states in zip(values.tolist(), occurrences.tolist(), strict=True):
            total[seen] = total.get(seen, 0) + states
    ascending = sorted(total.items())
    return np.array([float(seen) for seen, _ in ascending]), np.array(
        [float(states) for _, states in ascending]
    )


def entropy_of(count: npt.NDArray[np.float64], states: npt.NDArray[np.float64], order: float) -> float:
    """Rényi entropy, in bits, of ``states[i]`` states that were seen ``count[i]`` times each."""
    if count.size == 1:  # uniform: every order agrees, and the logarithm is exact
        return math.log2(states[0])
    total = math.fsum(count * states)
    if order == 0:
        return math.log2(states.sum())
    if math.isinf(order):
        return math.log2(total / count.max())
    log_probability = np.log2(count / total)
    if order == 1:
        return -math.fsum(states * (count / total) * log_probability)
    # Relative to the largest term: p^a would underflow for a large order.
    largest = log_probability.max()
    powers = math.fsum(states * np.exp2(order * (log_probability - largest)))
    return max(0.0, (order * float(largest) + math.log2(powers)) / (1.0 - order))


def layer_efficiency(counts: Counts, neurons: int, order: float = 1.0) -> float:
    """Entropy of a layer's states over the largest that its neurons could have: ``H / neurons``, in [0, 1].

    Args:
        counts: How often each state was seen, shape ``(states,)``.
        neurons: Number of neurons of the layer, ``>= 1``.
        order: Order of the entropy; 1 is the paper's.

    Raises:
        InputError: As `entropy`; or fewer than one neuron.

    >>> layer_efficiency([5, 5], neurons=2)
    0.5
    """
    if neurons < 1:
        raise InputError(f"A layer must have at least one neuron, but was given {neurons}.")
    return entropy(counts, order) / neurons


def network_efficiency(efficiencies: Iterable[float]) -> float:
    """Geometric mean of the hidden layers' efficiencies, in [0, 1]; 0 as soon as one of them is 0.

    Raises:
        InputError: There is no layer, or an efficiency is outside [0, 1].

    >>> network_efficiency([0.25, 1.0])
    0.5
    """
    values = [float(value) for value in efficiencies]
    if not values:
        raise InputError("The efficiency of a network needs at least one hidden layer, but was given none.")
    for value in values:
        _check_fraction("The efficiency of a layer", value)
    if min(values) <= 0:
        return 0.0
    return min(1.0, math.exp2(math.fsum(math.log2(value) for value in values) / len(values)))


def aiq(accuracy: float, efficiency: float, beta: float = 2.0) -> float:
    r"""Artificial intelligence quotient.

    .. math:: aIQ = (accuracy^\beta \cdot efficiency)^{1 / (\beta + 1)}

    Args:
        accuracy: Fraction of right answers, in [0, 1].
        efficiency: Network efficiency, in [0, 1].
        beta: Weight of the accuracy against the efficiency, any real number above 0.

    Raises:
        InputError: One of them is outside its range.

    >>> aiq(0.5, 1.0)
    0.6299605249474366
    """
    _check_fraction("Accuracy", accuracy)
    _check_fraction("Efficiency", efficiency)
    if not (beta > 0 and math.isfinite(beta)):
        raise InputError(f"beta must be a finite number above 0, but is {beta}.")
    return float((accuracy**beta * efficiency) ** (1.0 / (beta + 1.0)))


# An efficiency may end a rounding error above 1.
_ROUNDING = 1e-9


def _check_fraction(what: str, value: float) -> None:
    if not -_ROUNDING <= value <= 1 + _ROUNDING:
        hint = " Divide a percentage by 100." if 1 < value <= 100 else ""
        raise InputError(f"{what} must be between 0 and 1, but is {value}.{hint}")
