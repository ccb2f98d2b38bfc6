"""Compiled packing and counting (numba); the torch path gives the same counts.

Numba is imported and the kernels are loaded at the first use, from numba's cache on disk after the first use
on a machine. Where that cache cannot be written, each process compiles again (seconds).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aiq_search.statespace.packing import words_for

__all__ = ["Kernels", "load_kernels"]

# A positive number's bits, read as an integer, are above 0 and up to those of infinity; NaN is beyond.
# Unlike a comparison of floats this holds for denormal numbers in any mode of the processor, and for
# bfloat16.
_AS_INTEGER: dict[torch.dtype, tuple[torch.dtype, Any]] = {
    torch.float32: (torch.int32, np.int32(0x7F800000)),
    torch.float64: (torch.int64, np.int64(0x7FF0000000000000)),
    torch.float16: (torch.int16, np.int16(0x7C00)),
    torch.bfloat16: (torch.int16, np.int16(0x7F80)),
}

_TILE = 1024


@dataclass(frozen=True)
class Kernels:
    """The compiled functions."""

    planes: Callable[..., None]
    rows: Callable[..., None]
    planes_histogram: Callable[..., None]
    rows_histogram: Callable[..., None]

    def pack(self, planes: torch.Tensor) -> torch.Tensor:
        """As ``packing.pack_states``, for a CPU tensor of a floating type."""
        outer, neurons, inner = planes.shape
        integer, limit = _AS_INTEGER[planes.dtype]
        out = np.empty((outer * inner, words_for(neurons)), dtype=np.int64)
        bits = planes.view(integer).numpy()
        if inner == 1:
            self.rows(bits.reshape(outer, neurons), limit, out)
        else:
            self.planes(bits, limit, out)
        return torch.from_numpy(out)

    def count(self, planes: torch.Tensor, histogram: npt.NDArray[np.int64]) -> None:
        """Count the states of a layer of few neurons, without ever writing them down.

        Args:
            planes: As for `pack`.
            histogram: Shape ``(2^neurons,)``.
        """
        outer, neurons, inner = planes.shape
        integer, limit = _AS_INTEGER[planes.dtype]
        bits = planes.view(integer).numpy()
        if inner == 1:
            self.rows_histogram(bits.reshape(outer, neurons), limit, histogram)
        else:
            self.planes_histogram(bits, limit, histogram)

    @staticmethod
    def packs(planes: torch.Tensor) -> bool:
        """Whether `pack` can take this tensor."""
        return planes.device.type == "cpu" and planes.dtype in _AS_INTEGER


@functools.cache
def load_kernels() -> Kernels:
    """Load the compiled kernels, or compile them."""
    from numba import njit

    def compiled(function: Callable[..., None]) -> Callable[..., None]:
        try:
            return njit(cache=True, nogil=True)(function)
        except RuntimeError:  # numba found no folder that it may write its cache to
            return njit(nogil=True)(function)

    return Kernels(*map(compiled, (_pack_planes, _pack_rows, _count_planes, _count_rows)))


def _pack_planes(bits: Any, limit: Any, out: Any) -> None:  # noqa: ANN401
    """Pack ``(outer, neurons, inner)`` into ``(outer * inner, words)``, a tile of positions at a time."""
    outer, neurons, inner = bits.shape
    tile = np.empty(min(inner, _TILE), np.int64)
    for plane in range(outer):
        for start in range(0, inner, _TILE):
            length = min(_TILE, inner - start)
            word = tile[:length]
            for w in range(out.shape[1]):
                word[:] = 0
                for neuron in range(64 * w, min(neurons, 64 * w + 64)):
                    bit = np.int64(1) << np.int64(neuron - 64 * w)
                    values = bits[plane, neuron, start : start + length]
                    for i in range(length):
                        value = values[i]
                        word[i] |= bit if (value > 0) & (value <= limit) else np.int64(0)
                out[plane * inner + start : plane * inner + start + length, w] = word


def _pack_rows(bits: Any, limit: Any, out: Any) -> None:  # noqa: ANN401
    """Pack ``(observations, neurons)`` into ``(observations, words)``."""
    observations, neurons = bits.shape
    for row in range(observations):
        for w in range(out.shape[1]):
            values = bits[row, 64 * w : min(neurons, 64 * w + 64)]
            word = np.int64(0)
            for i in range(values.shape[0]):
                value = values[i]
                word |= np.int64((value > 0) & (value <= limit)) << np.int64(i)
            out[row, w] = word


def _count_planes(bits: Any, limit: Any, histogram: Any) -> None:  # noqa: ANN401
    """Count the states of ``(outer, neurons, inner)``; 32 bits are enough for the histogram's index."""
    outer, neurons, inner = bits.shape
    tile = np.empty(min(inner, _TILE), np.int32)
    for plane in range(outer):
        for start in range(0, inner, _TILE):
            length = min(_TILE, inner - start)
            state = tile[:length]
            state[:] = 0
            for neuron in range(neurons):
                bit = np.int32(1 << neuron)
                values = bits[plane, neuron, start : start + length]
                for i in range(length):
                    value = values[i]
                    state[i] |= bit if (value > 0) & (value <= limit) else np.int32(0)
            for i in range(length):
                histogram[np.uint32(state[i])] += 1


def _count_rows(bits: Any, limit: Any, histogram: Any) -> None:  # noqa: ANN401
    """Count the states of ``(observations, neurons)``."""
    observations, neurons = bits.shape
    for row in range(observations):
        state = np.uint32(0)
        for neuron in range(neurons):
            value = bits[row, neuron]
            state |= np.uint32((value > 0) & (value <= limit)) << np.uint32(neuron)
        histogram[state] += 1
