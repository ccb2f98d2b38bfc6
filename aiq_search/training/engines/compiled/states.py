"""The states of a layer, counted from the lanes in which its outputs were computed."""

from __future__ import annotations

import numpy as np
import torch

from aiq_search.statespace import StateCounter
from aiq_search.training.engines.compiled.arrays import Planes, blocks_for
from aiq_search.training.engines.compiled.layers import count_states
from aiq_search.training.engines.compiled.vectors import (
    LANES,
)

__all__ = ["LayerStates"]

# A histogram over all states of so many channels is small; statespace counts wider layers.
_HISTOGRAM_CHANNELS = 16
# Up to so many channels the histogram is kept in parts, which together fit into the first cache.
_PARTED_CHANNELS = 10


class LayerStates:
    """Counts the states of one layer over a split, exactly.

    Args:
        channels: Neurons of the layer.
        order: Order of the entropy.
    """

    def __init__(self, channels: int, order: float = 1.0) -> None:
        self._channels = channels
        self._order = order
        self._counter: StateCounter | None = None
        if channels > _HISTOGRAM_CHANNELS:
            self._counter = StateCounter(channels, backend="compiled", order=order)
        else:
            self._parts = 4 if channels <= _PARTED_CHANNELS else 1
            self._counts = np.zeros(self._parts << channels, np.int64)

    def add(self, z: Planes, samples: int) -> None:
        """Count the states at the beginning of ``z``, which must have no border."""
        if self._counter is None:
            count_states(
                z.array, z.layout, self._counts, self._parts, samples, self._channels, z.height, z.width
            )
            return
        whole = torch.from_numpy(z.array[: blocks_for(samples) * z.block])
        values = whole.view(-1, z.channels, z.height * z.width, LANES)
        full = samples // LANES
        if full:
            self._counter.update(values[:full], axis=1)
        if rest := samples % LANES:
            self._counter.update(values[full:, :, :, :rest], axis=1)

    def efficiency(self) -> float:
        """Entropy of the states over the number of neurons."""
        return self._counted().compute().efficiency

    def _counted(self) -> StateCounter:
        if self._counter is not None:
            return self._counter
        counts = self._counts.reshape(self._parts, -1).sum(axis=0)
        states = np.flatnonzero(counts)
        return StateCounter.from_arrays(
            {
                "format": np.array(1),
                "neurons": np.array(self._channels),
                "halvings": np.array(0),
                "states": states.astype(np.uint64).reshape(-1, 1),
                "counts": counts[states],
            },
            order=self._order,
        )
