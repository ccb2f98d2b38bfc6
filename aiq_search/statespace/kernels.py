"""Compiled packing and counting (numba), beside the torch path that gives the same counts.

Numba is imported and the kernels are loaded at the first use, from numba's cache on disk after the first use
on a machine. Where no place for that cache can be written to, each process compiles anew (seconds).
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

# A positive number's bits, read as an integer, lie above 0 and up to those of infinity; NaN lies beyond.
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
    increment: Callable[..., None]

    def pack(self, planes: torch.Tensor, scratch: list[npt.NDArray[np.int64]] | None = None) -> torch.Tensor:
        """As ``packing.pack_states``, for a CPU tensor of a floating type.

        Args:
            planes: ``(outer, neurons, inner)``, contiguous.
            scratch: Memory of an earlier call whose result is no longer needed: fresh memory costs as much
                as the packing. Empty at first; filled here.
        """
        outer, neurons, inner = planes.shape
        integer, limit = _AS_INTEGER[planes.dtype]
        length = outer * inner
        if scratch and len(scratch[0]) >= length:
            out = scratch[0][:length]
        else:
            out = np.empty((length, words_for(neurons)), dtype=np.int64)
            if scratch is not None:
                scratch[:] = [out]
        bits = planes.view(integer).numpy()
        if inner == 1:
            self.rows(bits.reshape(outer, neurons), limit, out)
        else:
            self.planes(bits, limit, out)
        return torch.from_numpy(out)

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

    return Kernels(compiled(_pack_planes), compiled(_pack_rows), compiled(_increment))


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


def _increment(histogram: Any, states: Any) -> None:  # noqa: ANN401
    """Count each state in the histogram that it is an index of."""
    for i in range(states.shape[0]):
        histogram[states[i, 0]] += 1
