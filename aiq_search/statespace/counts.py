"""The states counted in one layer, and what follows from them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aiq_search.statespace.entropy import entropy_of, multiplicities

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from aiq_search.statespace.runs import Block

__all__ = ["NeuronGroup", "StateCounts"]

# States looked at one time where every neuron's bit is unpacked.
_ROWS = 1 << 13


@dataclass(frozen=True)
class NeuronGroup:
    """Neurons that determine each other: each is always like the first, or always its opposite.

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
        blocks: The distinct states with their counts, in parts.
        order: Order of the Rényi entropy; 1 is Shannon's.
        sampled: Fraction of the observations that was kept; 1 unless a byte budget forced a sample.
    """

    neurons: int
    blocks: tuple[Block, ...]
    order: float = 1.0
    sampled: float = 1.0

    @property
    def states(self) -> npt.NDArray[np.uint64]:
        """The distinct states, shape ``(distinct, words)``.

        Neuron ``i`` is bit ``i % 64`` of word ``i // 64``.
        """
        return np.concatenate([block.states for block in self.blocks])

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each state was seen, shape ``(distinct,)``, all above 0."""
        return np.concatenate([block.counts for block in self.blocks]).astype(np.int64)

    @cached_property
    def _multiplicities(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return multiplicities(block.counts for block in self.blocks)

    @cached_property
    def observations(self) -> int:
        """Number of states counted, repeated ones included."""
        return sum(int(block.counts.sum(dtype=np.int64)) for block in self.blocks)

    @property
    def distinct(self) -> int:
        """Number of different states seen."""
        return sum(len(block) for block in self.blocks)

    @property
    def seen_once(self) -> float:
        """Fraction of the observations whose state was seen only once, in [0, 1].

        The higher it is, the more states are unseen, and the more the entropy depends on the size of the
        data set instead of the layer (Good and Turing: the chance that the next observation is a new state).
        """
        seen, states = self._multiplicities
        return float(states[seen == 1].sum()) / self.observations

    @cached_property
    def entropy(self) -> float:
        """Entropy of the states, in bits."""
        return entropy_of(*self._multiplicities, self.order)

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
            total += counts.astype(np.int64) @ bits
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
        first = _unpack(self.blocks[0].states[:1], self.neurons)[0]
        digests = [hashlib.blake2b(digest_size=16) for _ in range(self.neurons)]
        for bits, _ in self._bits():
            # A neuron compared with its own first state is the same for a neuron and its opposite.
            columns = np.ascontiguousarray(np.packbits(bits != first, axis=0).T)
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

    def _bits(self) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]]:
        for block in self.blocks:
            for start in range(0, len(block), _ROWS):
                part = block[start : start + _ROWS]
                yield _unpack(part.states, self.neurons), part.counts


def _unpack(states: npt.NDArray[np.uint64], neurons: int) -> npt.NDArray[np.bool_]:
    """One column a neuron, shape ``(states, neurons)``."""
    little = np.ascontiguousarray(states).astype("<u8", copy=False)
    octets = little.view(np.uint8).reshape(len(states), -1)
    return np.unpackbits(octets, axis=1, count=neurons, bitorder="little").view(np.bool_)
