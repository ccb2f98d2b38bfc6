"""Sorted runs of distinct states: how states that are too wide for a histogram are counted.

A run holds each distinct state once, sorted by key, with its count. States of up to 64 neurons are their own
key. Wider ones are keyed by a hash; states of equal hash are compared word by word, so that a collision costs
time and never a wrong count. Runs are merged when they have grown alike, so that a state is moved
O(log observations) times and memory follows the distinct states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Run", "group_states", "merge_runs"]

# Distinct states merged at one time: bounds the working memory of a merge.
_BLOCK = 1 << 17


@dataclass(frozen=True)
class Run:
    """Distinct states and their counts.

    Attributes:
        keys: int64, shape ``(distinct,)``, ascending.
        states: uint64, shape ``(distinct, words)``; a view of ``keys`` if a state is one word.
        counts: int64, shape ``(distinct,)``.
    """

    keys: npt.NDArray[np.int64]
    states: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        wide = self.states.nbytes if self.states.shape[1] > 1 else 0
        return self.keys.nbytes + self.counts.nbytes + wide


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
    return _group(keys, states, counts)


def _group(
    keys: npt.NDArray[np.int64], states: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64] | None
) -> Run:
    # torch sorts int64 by radix, two to three times faster than numpy.
    sorted_keys, order = (part.numpy() for part in torch.sort(torch.from_numpy(keys)))
    starts = np.empty(len(keys), dtype=np.bool_)
    starts[:1] = True
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=starts[1:])
    if states.shape[1] > 1:
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
        summed = np.add.reduceat(counts[order], first) if len(first) else counts[:0]
    distinct_keys = sorted_keys[first]
    distinct = rows[first] if states.shape[1] > 1 else distinct_keys.view(np.uint64).reshape(-1, 1)
    return Run(distinct_keys, distinct, summed)


def merge_runs(left: Run, right: Run) -> Run:
    """One run with the states of both; block by block, so that little more than the result is held."""
    if not len(left) or not len(right):
        return left if len(left) else right
    words = left.states.shape[1]
    # Pages of an empty array take memory only once they are written to.
    keys = np.empty(len(left) + len(right), dtype=np.int64)
    counts = np.empty_like(keys)
    states = np.empty((len(keys), words), dtype=np.uint64) if words > 1 else None
    end = 0
    for a, b in _blocks(left.keys, right.keys):
        block = _group(
            np.concatenate([left.keys[a], right.keys[b]]),
            np.concatenate([left.states[a], right.states[b]]),
            np.concatenate([left.counts[a], right.counts[b]]),
        )
        keys[end : end + len(block)] = block.keys
        counts[end : end + len(block)] = block.counts
        if states is not None:
            states[end : end + len(block)] = block.states
        end += len(block)
    keys.resize(end, refcheck=False)
    counts.resize(end, refcheck=False)
    if states is None:
        return Run(keys, keys.view(np.uint64).reshape(-1, 1), counts)
    states.resize((end, words), refcheck=False)
    return Run(keys, states, counts)


def _blocks(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> list[tuple[slice, slice]]:
    """Cut two ascending arrays into blocks of about ``_BLOCK`` keys; equal keys are never parted."""
    longer = left if len(left) >= len(right) else right
    cuts = longer[_BLOCK::_BLOCK]
    at_left = [0, *np.searchsorted(left, cuts).tolist(), len(left)]
    at_right = [0, *np.searchsorted(right, cuts).tolist(), len(right)]
    return [
        (slice(a, b), slice(c, d))
        for a, b, c, d in zip(at_left, at_left[1:], at_right, at_right[1:], strict=False)
        if b > a or d > c
    ]
