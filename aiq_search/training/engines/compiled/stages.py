"""A stage of a network at work: forward, backward and measured, for samples in blocks of lanes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from aiq_search.training.engines.compiled.arrays import Floats, Parameters, Planes
from aiq_search.training.engines.compiled.layers import ELU, NONE, RELU, TANH, expand, finish
from aiq_search.training.engines.compiled.normalisation import Normalisation
from aiq_search.training.engines.compiled.operators import (
    AveragedProduct,
    Convolution,
    GroupedConvolution,
    MatrixProduct,
    Operator,
)
from aiq_search.training.engines.compiled.pooled import PooledConvolution
from aiq_search.training.engines.compiled.recognition import Stage
from aiq_search.training.engines.compiled.states import LayerStates
from aiq_search.training.engines.compiled.vectors import (
    LANES,
)

__all__ = ["Batch", "StageKernels"]

# Bytes of a map between two kernels: it should still be in the cache when the second one reads it.
_SCRATCH = 1 << 19


@dataclass(frozen=True)
class Batch:
    """What every stage knows of the samples at hand.

    Attributes:
        samples: How many.
        blocks: Of lanes; the last one may not be full.
        used: 1 for each lane that holds a sample, else 0.
    """

    samples: int
    blocks: int
    used: Floats


class StageKernels:
    """One stage: its arrays, and its kernels in their order.

    Args:
        stage: What it computes.
        parameters: Of the network.
        inputs: What the stage reads, with the border that its convolution needs.
        border: The border that the next stage needs around what this one gives.
        reads_samples: Whether the inputs are the samples themselves, of which nobody needs the gradient.

    Attributes:
        outputs: What the stage gives.
        gradient: Receives the gradient of that, without a border.
    """

    def __init__(
        self,
        stage: Stage,
        parameters: Parameters,
        inputs: Planes,
        border: tuple[int, int],
        *,
        reads_samples: bool,
    ) -> None:
        self.stage = stage
        blocks = inputs.blocks
        self.outputs = Planes.empty(blocks, stage.pooled, border)
        self.gradient = Planes.empty(blocks, stage.pooled)
        make = MatrixProduct if stage.is_matrix else Convolution
        if stage.averaged:
            make = AveragedProduct
        elif stage.groups > 1:
            make = GroupedConvolution
        elif PooledConvolution.pays(stage):
            make = PooledConvolution
        self._operator: Operator = make(stage, parameters, inputs, needs_gradient=not reads_samples)
        map_bytes = 4 * prod(stage.outputs) * LANES
        self._chunk = blocks if stage.is_matrix else max(1, min(blocks, _SCRATCH // map_bytes))
        self._norm = None if stage.norm is None else Normalisation(stage.norm, parameters)
        # A batch norm sees the map of all samples before it normalises any.
        self._z = Planes.empty(blocks if self._norm else self._chunk, stage.outputs)
        self._dz = self._operator.gradient_planes(self._chunk)
        # Over which window the gradient behind the pooling is spread before the operator takes it.
        self._spread = (1, 1) if self._operator.takes_pooled else stage.pool
        # A convolution pools by itself where nothing comes between.
        self._pools = not stage.is_matrix and self._norm is None and stage.pool == (2, 2)
        self._pooled = Planes(self._z.array, *stage.pooled, stage.pooled[1:])
        self._places = np.zeros(len(self.gradient.array) if stage.pool != (1, 1) else 1, np.uint8)
        self._activation = _activation(stage.activation)
        self._dropped = stage.dropout is not None
        self._keep = 1.0 - stage.dropout.p if stage.dropout else 1.0
        self._noise = np.zeros(len(self.gradient.array) if self._dropped else 1, np.float32)
        self._one = np.ones(stage.outputs[0], np.float32)
        self._nothing = np.zeros(stage.outputs[0], np.float32)

    def forward(self, batch: Batch) -> None:
        """Compute the outputs, as while the network learns."""
        if self._dropped:
            self._draw_noise(batch)
        self._operator.pack()
        if self._norm is not None:
            self._operator.forward(0, batch.blocks, self._z, self._places, pooled=False)
            affine = self._norm.of_batch(self._z, batch.used, batch.samples, batch.blocks)
            self._finish(0, batch.blocks, self._z, affine, self.stage.pool)
            return
        z, pool = (self._pooled, (1, 1)) if self._pools else (self._z, self.stage.pool)
        for first, last in self._chunks(batch.blocks):
            self._operator.forward(first, last, z, self._places_from(first), pooled=self._pools)
            self._finish(first, last, z, (self._one, self._nothing), pool)

    def backward(self, batch: Batch, inputs: Planes | None) -> None:
        """Write the gradients of the stage's parameters, and that of its inputs if it is wanted.

        The gradient of the outputs must be there; those of the parameters must be 0 before.
        """
        shape = batch.blocks, *self.stage.pooled
        if self._norm is not None:
            self._norm.sum_gradient(self._behind(0), self._z, batch.samples, shape)
        for first, last in self._chunks(batch.blocks):
            self._expand(first, last, batch)
            self._operator.add_weight_gradient(first, last, self._dz, self._places_from(first))
            if inputs is not None:
                self._operator.input_gradient(first, last, self._dz, inputs)

    def measure(self, batch: Batch, states: LayerStates | None) -> None:
        """Compute the outputs as while the network is measured, and count the states of the layer."""
        self._operator.pack()
        affine = (self._one, self._nothing) if self._norm is None else self._norm.of_past()
        for first, last in self._chunks(batch.blocks):
            self._operator.forward(first, last, self._z, self._places, pooled=False)
            if states is not None:
                states.add(self._z, min(batch.samples, last * LANES) - first * LANES)
            self._finish(first, last, self._z, affine, self.stage.pool, measured=True)

    def _chunks(self, blocks: int) -> Iterator[tuple[int, int]]:
        for first in range(0, blocks, self._chunk):
            yield first, min(blocks, first + self._chunk)

    def _places_from(self, first: int) -> Any:  # noqa: ANN401
        return self._places[first * self.gradient.block :]

    def _finish(
        self, first: int, last: int, z: Planes, affine: tuple[Floats, Floats], pool: tuple[int, int], *,
        measured: bool = False,
    ) -> None:  # fmt: skip
        y, at = self.outputs, first * self.gradient.block
        finish(
            z.array, z.layout, *affine, *pool, self._places[at:], *self._activation, self._noise[at:],
            self._dropped and not measured, y.from_block(first), y.layout,
            last - first, y.channels, y.height, y.width,
        )  # fmt: skip

    def _behind(self, first: int) -> tuple[Any, ...]:
        """What lies behind the layer, from a block on, as the kernels of the gradient take it."""
        y, at = self.outputs, first * self.gradient.block
        return (
            self.gradient.array[at:], y.from_block(first), y.layout, *self._activation, self._noise[at:],
            self._keep, self._dropped, *self._spread, self._places[at:],
        )  # fmt: skip

    def _expand(self, first: int, last: int, batch: Batch) -> None:
        dz = self._dz
        bias = self._operator.bias_gradient
        if self._norm is not None:
            bias = np.empty_like(bias)  # before the normalisation it is another number
            if (dz.height % self.stage.pool[0], dz.width % self.stage.pool[1]) != (0, 0):
                dz.array.fill(0)
        shape = last - first, *self.stage.pooled
        expand(*self._behind(first), dz.array, dz.layout, bias, *shape)
        if self._norm is not None:
            used = batch.used[first * LANES :]
            self._norm.change_gradient(dz, self._z, first, used, self._operator.bias_gradient, last - first)

    def _draw_noise(self, batch: Batch) -> None:
        """Draw what dropout multiplies by, from torch's generator as torch does."""
        samples, features = batch.samples, prod(self.stage.pooled)
        drawn = torch.empty(samples, features).bernoulli_(self._keep).div_(self._keep).numpy()
        padded = np.zeros((batch.blocks * LANES, features), np.float32)
        padded[:samples] = drawn
        lanes = self._noise[: padded.size].reshape(batch.blocks, features, LANES)
        lanes[:] = padded.reshape(batch.blocks, LANES, features).transpose(0, 2, 1)


def _activation(module: nn.Module | None) -> tuple[int, float]:
    """An activation's number and its slope or alpha below 0."""
    match module:
        case nn.LeakyReLU():
            return RELU, float(module.negative_slope)
        case nn.ELU():
            return ELU, float(module.alpha)
        case nn.Tanh():
            return TANH, 0.0
        case nn.ReLU():
            return RELU, 0.0
    return NONE, 0.0
