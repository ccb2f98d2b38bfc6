"""Exact counting of the states of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from aiq_search.errors import InputError
from aiq_search.statespace.entropy import entropy, layer_efficiency
from aiq_search.statespace.packing import as_planes, pack_states, words_for

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

__all__ = ["StateCounter", "StateCounts"]


@dataclass(frozen=True)
class StateCounts:
    """The distinct states of one layer and how often each was seen.

    Attributes:
        neurons: Number of neurons.
        states: uint64, shape ``(distinct, words)``; neuron ``i`` is bit ``i % 64`` of word ``i // 64``.
        counts: int64, shape ``(distinct,)``, all above 0.
        order: Order of the Rényi entropy; 1 is Shannon's.
    """

    neurons: int
    states: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    order: float = 1.0

    @property
    def observations(self) -> int:
        """Number of states counted, repeated ones included."""
        return int(self.counts.sum())

    @property
    def distinct(self) -> int:
        """Number of different states seen."""
        return len(self.counts)

    @cached_property
    def entropy(self) -> float:
        """Entropy in bits."""
        return entropy(self.counts, self.order)

    @cached_property
    def efficiency(self) -> float:
        """Entropy over neurons, in [0, 1]."""
        return layer_efficiency(self.counts, self.neurons, self.order)


class StateCounter:
    """Accumulator of the states of one layer: update, merge, reset, compute.

    Args:
        neurons: Number of neurons of the layer.
        order: Order of the entropy in the result; 1 is the paper's.
    """

    def __init__(self, neurons: int, *, order: float = 1.0) -> None:
        if neurons < 1:
            raise InputError(f"A layer must have at least one neuron, but was given {neurons}.")
        self.neurons = neurons
        self.order = order
        self.reset()

    def reset(self) -> None:
        """Forget everything counted."""
        self._states = np.zeros((0, words_for(self.neurons)), dtype=np.uint64)
        self._counts = np.zeros(0, dtype=np.int64)

    def update(self, activations: torch.Tensor, axis: int = -1) -> None:
        """Count the states of a batch.

        Args:
            activations: Any shape, the neurons on one axis; every other axis counts observations.
            axis: The neurons' axis.
        """
        given = activations.shape[axis]
        if given != self.neurons:
            raise InputError(f"Expected {self.neurons} neurons on axis {axis}, but the batch has {given}.")
        packed = pack_states(as_planes(activations.detach(), axis)).cpu().numpy().view(np.uint64)
        self._add(packed, np.ones(len(packed), dtype=np.int64))

    def merge(self, other: StateCounter) -> None:
        """Add all that another counter of the same layer counted."""
        self._add(other._states, other._counts)

    def _add(self, states: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]) -> None:
        both = np.concatenate([self._states, states])
        weights = np.concatenate([self._counts, counts])
        self._states, inverse = np.unique(both, axis=0, return_inverse=True)
        self._counts = np.zeros(len(self._states), dtype=np.int64)
        np.add.at(self._counts, inverse.reshape(-1), weights)

    def compute(self) -> StateCounts:
        """The states counted so far."""
        if not len(self._counts):
            raise InputError("No observation was counted. Run the model on at least one sample first.")
        return StateCounts(self.neurons, self._states, self._counts, self.order)
