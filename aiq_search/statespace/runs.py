"""Sorted runs of distinct states: how states that are too wide for a histogram are counted.

A run holds each distinct state once, sorted by key, with its count, as a list of blocks. States of up to 64
neurons are their own key. Wider ones are keyed by a hash; states of equal hash are compared word by word, so
that a collision costs time and never a wrong count. Runs are merged when they have grown alike, so that a
state is moved O(log observations) times and memory follows the distinct states.
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Block", "Run", "group_states", "merge_runs"]

# Distinct states of a block, about: what a merge holds besides its result.
_BLOCK = 1 << 16
# Arrays of this many bytes get pages of their own.
_OWN_PAGES = 1 << 15


@dataclass(frozen=True)
class Block:
    """Distinct states and their counts; never changed once made.

    Attributes:
        keys: int64, shape ``(distinct,)``, ascending.
        states: uint64, shape ``(distinct, words)``; a view of ``keys`` if a state is one word.
        counts: Shape ``(distinct,)``, all above 0, of the narrowest unsigned type that holds them.
    """

    keys: npt.NDArray[np.int64]
    states: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.unsignedinteger[Any]]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, part: slice | npt.NDArray[np.bool_]) -> Block:
        return Block(self.keys[part], self.states[part], self.counts[part])

    @property
    def nbytes(self) -> int:
        """Memory held."""
        wide = self.states.nbytes if self.states.shape[1] > 1 else 0
        return self.keys.nbytes + self.counts.nbytes + wide

    @classmethod
    def of(
        cls, keys: npt.NDArray[np.int64], states: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]
    ) -> Block:
        """A block in memory of its own, its counts stored as narrowly as they can be."""
        narrow = np.min_scalar_type(counts.max()) if len(counts) else np.uint8
        return cls.joined([cls(keys, states, counts.astype(narrow))])

    @classmethod
    def joined(cls, blocks: Iterable[Block]) -> Block:
        """One block, in memory of its own, of several whose keys follow each other."""
        parts = list(blocks)
        keys = _concatenated([part.keys for part in parts])
        counts = _concatenated([part.counts for part in parts])
        if parts[0].states.shape[1] == 1:
            return cls(keys, keys.view(np.uint64).reshape(-1, 1), counts)
        return cls(keys, _concatenated([part.states for part in parts]), counts)


def _concatenated(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Concatenation in pages of its own.

    What lives long among what is freed soon would keep the allocator from giving memory back: on glibc the
    peak over 60,000 images was 85 to 240 MB above the plain pass with blocks from the heap, and is 75 MB so.
    """
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    dtype = np.result_type(*parts)
    size = math.prod(shape) * dtype.itemsize
    if size < _OWN_PAGES:
        return np.concatenate(parts)
    pages = mmap.mmap(-1, size, access=mmap.ACCESS_COPY)
    return np.concatenate(parts, out=np.frombuffer(pages, dtype=dtype).reshape(shape))


class Run:
    """Blocks of ascending keys; equal keys are never in two of them.

    Args:
        blocks: The blocks, in order; small neighbours are joined.
    """

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self.blocks: deque[Block] = deque()
        for block in blocks:
            self.append(block)

    def append(self, block: Block) -> None:
        """Add a block whose keys are above all others."""
        if not len(block):
            return
        if self.blocks and len(self.blocks[-1]) + len(block) <= _BLOCK:
            block = Block.joined((self.blocks.pop(), block))
        self.blocks.append(block)

    def __len__(self) -> int:
        return sum(len(block) for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(block.nbytes for block in self.blocks)


def hash_rows(states: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """64-bit hash of each row (splitmix64's finaliser, folded over the words)."""
    mixed = np.full(len(states), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for word in range(states.shape[1]):
        mixed ^= states[:, word]
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed.view(np.int64)


def group_states(states: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64] | None = None) -> Run:
    """Sort states and add up the counts of equal ones.

    Args:
        states: Shape ``(observations, words)``, in any order, repeated ones included.
        counts: Count of each; by default 1.
    """
    states = np.ascontiguousarray(states)
    keys = states.reshape(-1).view(np.int64) if states.shape[1] == 1 else hash_rows(states)
    whole = _group(keys, states, counts)
    ends = [*np.searchsorted(whole.keys, whole.keys[_BLOCK::_BLOCK]).tolist(), len(whole)]
    return Run(
        Block.joined([whole[start:end]]) for start, end in zip([0, *ends], ends, strict=False) if end > start
    )


def _group(
    keys: npt.NDArray[np.int64],
    states: npt.NDArray[np.uint64],
    counts: npt.NDArray[np.integer[Any]] | None,
) -> Block:
    # torch sorts int64 by radix, two to three times faster than numpy.
    sorted_keys, order = (part.numpy() for part in torch.sort(torch.from_numpy(keys)))
    starts = np.empty(len(keys), dtype=np.bool_)
    starts[:1] = True
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=starts[1:])
    wide = states.shape[1] > 1
    if not wide and counts is None:
        del order  # as large as the keys, and not needed
    if wide:
        rows = states[order]
        differs = (rows[1:] != rows[:-1]).any(axis=1)
        if (differs & ~starts[1:]).any():  # different states of one hash: order by the states too
            order = np.lexsort((*states.T[::-1], keys))
            sorted_keys, rows = keys[order], states[order]
            differs = (rows[1:] != rows[:-1]).any(axis=1)
        starts[1:] = differs
    first = np.flatnonzero(starts)
    if counts is None:
        summed = np.diff(first, append=len(keys))
    else:
        summed = (
            np.add.reduceat(counts[order], first, dtype=np.int64) if len(first) else np.zeros(0, np.int64)
        )
    distinct = sorted_keys[first]
    return Block.of(distinct, rows[first] if wide else distinct.view(np.uint64).reshape(-1, 1), summed)


def merge_runs(left: Run, right: Run) -> Run:
    """One run with the states of both, which are used up: little more than the result is held at any time."""
    merged = Run()
    while left.blocks and right.blocks:
        # Up to the smaller of the two last keys, both runs are known to the end.
        last = min(left.blocks[0].keys[-1], right.blocks[0].keys[-1])
        parts = [_take_up_to(left, last), _take_up_to(right, last)]
        parts = [part for part in parts if len(part)]
        if len(parts) == 1:
            merged.append(parts[0])
        else:
            both = Block.joined(parts)
            merged.append(_group(both.keys, both.states, both.counts))
    for rest in (left, right):
        while rest.blocks:
            merged.append(rest.blocks.popleft())
    return merged


def _take_up_to(run: Run, last: np.int64) -> Block:
    """Remove and return the part of the first block whose keys are at most ``last``."""
    block = run.blocks.popleft()
    end = int(np.searchsorted(block.keys, last, side="right"))
    if end < len(block):
        run.blocks.appendleft(block[end:])
    return block[:end]
