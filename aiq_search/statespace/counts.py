"""What was counted of one layer, and what it says."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from aiq_search.statespace.entropy import entropy

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["NeuronGroup", "StateCounts"]

# States looked at one time where every neuron's bit is unpacked.
_BLOCK = 1 << 15


@dataclass(frozen=True)
class NeuronGroup:
    """Neurons of which one tells all: each is always as the first, or always its opposite.

    Attributes:
        neurons: Indices, ascending.
        opposed: Those of them that are on when the first is off.
    """

    neurons: tuple[int, ...]
    opposed: tuple[int, ...] = ()


@dataclass(frozen=True)
class StateCounts:
    """The distinct states of one layer and how often each was seen.

    Attributes:
        neurons: Number of neurons.
        states: uint64, shape ``(distinct, words)``; neuron ``i`` is bit ``i % 64`` of word ``i // 64``.
        counts: int64, shape ``(distinct,)``, all above 0.
        order: Order of the Rényi entropy; 1 is Shannon's.
        sampled: Fraction of the observations that was kept; 1 unless a byte budget forced a sample.
    """

    neurons: int
    states: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    order: float = 1.0
    sampled: float = 1.0

    @cached_property
    def observations(self) -> int:
        """Number of states counted, repeated ones included."""
        return int(self.counts.sum())

    @property
    def distinct(self) -> int:
        """Number of different states seen."""
        return len(self.counts)

    @property
    def seen_once(self) -> float:
        """Fraction of the observations whose state was seen only once, in [0, 1].

        The higher, the more states are still to be seen, and the more the entropy tells of the size of the
        data set instead of the layer (Good and Turing: the chance that the next observation is a new state).
        """
        return int((self.counts == 1).sum()) / self.observations

    @cached_property
    def entropy(self) -> float:
        """Entropy of the states, in bits."""
        return entropy(self.counts, self.order)

    @property
    def efficiency(self) -> float:
        """Entropy over the number of neurons, in [0, 1]."""
        return self.entropy / self.neurons

    @property
    def ceiling(self) -> float:
        """The largest efficiency that so few observations can show: ``min(1, log2(N) / neurons)``."""
        return min(1.0, math.log2(self.observations) / self.neurons)

    @cached_property
    def on_counts(self) -> npt.NDArray[np.int64]:
        """How often each neuron was on, shape ``(neurons,)``."""
        total = np.zeros(self.neurons, dtype=np.int64)
        for bits, counts in self._bits():
            total += np.where(bits, counts[:, None], 0).sum(axis=0)
        return total

    @property
    def always_off(self) -> tuple[int, ...]:
        """Neurons that never fired."""
        return tuple(np.flatnonzero(self.on_counts == 0).tolist())

    @property
    def always_on(self) -> tuple[int, ...]:
        """Neurons that fired at every observation."""
        return tuple(np.flatnonzero(self.on_counts == self.observations).tolist())

    @cached_property
    def groups(self) -> tuple[NeuronGroup, ...]:
        """Groups of two or more neurons in perfect sync or opposition, constant neurons left out."""
        first = _unpack(self.states[:1], self.neurons)[0]
        digests = [hashlib.blake2b(digest_size=16) for _ in range(self.neurons)]
        for bits, _ in self._bits():
            # A neuron compared with its own first state is the same for a neuron and its opposite.
            columns = np.packbits((bits != first).T, axis=1)
            for digest, column in zip(digests, columns, strict=True):
                digest.update(column.data)
        constant = {*self.always_off, *self.always_on}
        members: dict[bytes, list[int]] = {}
        for neuron, digest in enumerate(digests):
            if neuron not in constant:
                members.setdefault(digest.digest(), []).append(neuron)
        return tuple(
            NeuronGroup(tuple(group), tuple(n for n in group if first[n] != first[group[0]]))
            for group in members.values()
            if len(group) > 1
        )

    def _bits(self) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
        for start in range(0, self.distinct, _BLOCK):
            block = slice(start, start + _BLOCK)
            yield _unpack(self.states[block], self.neurons), self.counts[block]


def _unpack(states: npt.NDArray[np.uint64], neurons: int) -> npt.NDArray[np.bool_]:
    """One column a neuron, shape ``(states, neurons)``."""
    little = np.ascontiguousarray(states).astype("<u8", copy=False)
    octets = little.view(np.uint8).reshape(len(states), -1)
    return np.unpackbits(octets, axis=1, count=neurons, bitorder="little").view(np.bool_)
