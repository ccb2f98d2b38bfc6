"""The linear part of a stage, forward and backward: a convolution, or a product with a matrix."""

from __future__ import annotations

from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from aiq_search.training.engines.compiled.arrays import Floats, Parameters, Planes
from aiq_search.training.engines.compiled.products import (
    TAPS,
    convolve,
    convolve_weights,
    groups,
    multiply,
    multiply_weights,
    pack,
)
from aiq_search.training.engines.compiled.recognition import Stage

__all__ = ["AveragedProduct", "Convolution", "GroupedConvolution", "MatrixProduct", "Operator"]


class Operator(Protocol):
    """What a stage needs of its linear part. Blocks are those from ``first`` to ``last``."""

    bias_gradient: Floats
    takes_pooled: bool
    """Whether the gradient of the output that it takes is that behind the pooling."""

    def pack(self) -> None:
        """Take notice of the weights as they are now."""

    def forward(self, first: int, last: int, z: Planes, places: NDArray[np.uint8], *, pooled: bool) -> None:
        """Compute the output of some blocks, to the beginning of ``z``.

        Args:
            first: The first block.
            last: One behind the last.
            z: Receives the output; of every 2 x 2 positions the largest, if ``pooled``,
            places: and which it was.
            pooled: Whether it is.
        """

    def gradient_planes(self, blocks: int) -> Planes:
        """Room for the gradient of the output of some blocks, as `add_weight_gradient` takes it."""

    def add_weight_gradient(self, first: int, last: int, dz: Planes, places: NDArray[np.uint8]) -> None:
        """Add to the gradient of the weights what some blocks give, whose ``dz`` is at its beginning.

        Args:
            first: The first block.
            last: One behind the last.
            dz: The gradient of the output.
            places: If that is behind the pooling: which position of its window each number belongs to.
        """

    def input_gradient(self, first: int, last: int, dz: Planes, dx: Planes) -> None:
        """Write the gradient of the input of some blocks, whose ``dz`` is at its beginning."""


class MatrixProduct:
    """A linear layer, or a convolution whose filter covers all of its input."""

    takes_pooled = False

    def __init__(self, stage: Stage, parameters: Parameters, inputs: Planes, *, needs_gradient: bool) -> None:
        self._inputs = inputs
        self._ins, self._outs = prod(stage.inputs), stage.outputs[0]
        self._weights = parameters.part(parameters.values, stage.layer.weight)
        self._gradient = parameters.part(parameters.gradient, stage.layer.weight)
        self._bias, self.bias_gradient = _biases(stage.layer, parameters)
        self._nothing = np.zeros(self._ins, np.float32)

    def pack(self) -> None:
        """Nothing: the weights are read as they are."""

    def forward(self, first: int, last: int, z: Planes, places: NDArray[np.uint8], *, pooled: bool) -> None:
        """As `Operator.forward`; there is nothing to pool."""
        weights = (self._weights, self._ins, 1, self._bias)
        self._multiply(self._inputs.from_block(first), self._ins, weights, z.array, self._outs, last - first)

    def gradient_planes(self, blocks: int) -> Planes:
        """As `Operator.gradient_planes`."""
        return Planes.empty(blocks, (self._outs, 1, 1))

    def add_weight_gradient(self, first: int, last: int, dz: Planes, places: NDArray[np.uint8]) -> None:
        """Write the gradient of the weights; the blocks must be all of the batch."""
        whole = self._ins // 4 * 4
        for rows, begin, end in groups(self._outs):
            for columns, low, high in ((4, 0, whole), (1, whole, self._ins)):
                if low < high:
                    multiply_weights(rows, columns)(
                        dz.array, self._outs, self._inputs.array, self._ins, self._gradient, last - first,
                        begin, end, low, high,
                    )  # fmt: skip

    def input_gradient(self, first: int, last: int, dz: Planes, dx: Planes) -> None:
        """As `Operator.input_gradient`."""
        weights = (self._weights, 1, self._ins, self._nothing)
        self._multiply(dz.array, self._outs, weights, dx.from_block(first), self._ins, last - first)

    @staticmethod
    def _multiply(
        x: Floats, ins: int, weights: tuple[Floats, int, int, Floats], y: Floats, outs: int, blocks: int
    ) -> None:
        whole = blocks // 4 * 4
        for rows, first, last in groups(outs):
            for columns, begin, end in ((4, 0, whole), (1, whole, blocks)):
                if begin < end:
                    multiply(rows, columns)(x, ins, *weights, y, outs, begin, end, first, last)


class AveragedProduct(MatrixProduct):
    """A linear layer of the mean of each channel: one of all positions, which share their weights."""

    def __init__(self, stage: Stage, parameters: Parameters, inputs: Planes, *, needs_gradient: bool) -> None:
        super().__init__(stage, parameters, inputs, needs_gradient=needs_gradient)
        channels, self._positions = stage.inputs[0], prod(stage.inputs[1:])
        self._shape = self._outs, channels, self._positions
        self._of_means = self._weights.reshape(self._outs, channels)
        self._gradient_of_means = self._gradient.reshape(self._outs, channels)
        self._weights = np.zeros(prod(self._shape), np.float32)
        self._gradient = np.zeros_like(self._weights)

    def pack(self) -> None:
        """As `Operator.pack`."""
        self._weights.reshape(self._shape)[:] = (self._of_means / np.float32(self._positions))[..., None]

    def add_weight_gradient(self, first: int, last: int, dz: Planes, places: NDArray[np.uint8]) -> None:
        """As `MatrixProduct.add_weight_gradient`."""
        self._gradient.fill(0)
        super().add_weight_gradient(first, last, dz, places)
        self._gradient_of_means += self._gradient.reshape(self._shape).mean(axis=2)


class Convolution:
    """A convolution."""

    takes_pooled = False

    def __init__(self, stage: Stage, parameters: Parameters, inputs: Planes, *, needs_gradient: bool) -> None:
        layer = stage.layer
        if not isinstance(layer, nn.Conv2d):
            raise TypeError(f"a convolution was expected, but this is a {type(layer).__name__}")
        self._inputs = inputs
        self._outs, self._height, self._width = stage.outputs
        self._filter = layer.kernel_size
        self._stride = layer.stride[0]
        self._weights = parameters.part(parameters.values, layer.weight)
        self._gradient = parameters.part(parameters.gradient, layer.weight)
        self._bias, self.bias_gradient = _biases(layer, parameters)
        self._packed = np.empty_like(self._weights)
        self._flipped = np.empty_like(self._weights) if needs_gradient else None
        self._nothing = np.zeros(inputs.channels, np.float32)

    def pack(self) -> None:
        """As `Operator.pack`."""
        ins, outs, taps = self._inputs.channels, self._outs, prod(self._filter)
        pack(self._weights, self._packed, outs, ins, taps, ins * taps, taps, False)
        if self._flipped is not None:
            self._pack_for_gradient(self._flipped)

    def _pack_for_gradient(self, flipped: Floats) -> None:
        ins, outs, taps = self._inputs.channels, self._outs, prod(self._filter)
        pack(self._weights, flipped, ins, outs, taps, taps, ins * taps, True)

    def forward(self, first: int, last: int, z: Planes, places: NDArray[np.uint8], *, pooled: bool) -> None:
        """As `Operator.forward`."""
        x = self._inputs
        for rows, begin, end in groups(self._outs):
            convolve(rows)(
                x.from_block(first), x.whole, *x.used, x.channels, *self._filter, self._stride,
                self._packed, self._bias, z.array, z.layout, places,
                last - first, begin, end, self._height, self._width, pooled,
            )  # fmt: skip

    def gradient_planes(self, blocks: int) -> Planes:
        """As `Operator.gradient_planes`.

        For the gradient of the input, zeros lie around it, and between its rows if the convolution has a
        stride: so many that the filter can be put at each position of the input.
        """
        shape = self._outs, self._height, self._width
        if self._flipped is None:
            spread = self._stride * (self._height - 1) + 1, self._stride * (self._width - 1) + 1
            return Planes.within(blocks, shape, spread, (0, 0), self._stride)
        x, (filter_height, filter_width) = self._inputs, self._filter
        size = x.height + filter_height - 1, x.width + filter_width - 1
        skip = filter_height - 1 - x.skip[0], filter_width - 1 - x.skip[1]
        return Planes.within(blocks, shape, size, skip, self._stride)

    def add_weight_gradient(self, first: int, last: int, dz: Planes, places: NDArray[np.uint8]) -> None:
        """As `Operator.add_weight_gradient`."""
        x, taps = self._inputs, prod(self._filter)
        for rows, begin, end in groups(self._outs):
            convolve_weights(rows, TAPS if taps >= TAPS else 1)(
                dz.array, dz.layout, x.from_block(first), x.whole, x.channels, self._filter[1], taps,
                self._stride, self._gradient, last - first, begin, end, self._height, self._width,
            )  # fmt: skip

    def input_gradient(self, first: int, last: int, dz: Planes, dx: Planes) -> None:
        """As `Operator.input_gradient`: a convolution with the filters turned round."""
        for rows, begin, end in groups(dx.channels):
            convolve(rows)(
                dz.array, dz.whole, *dz.used, self._outs, *self._filter, 1, self._flipped, self._nothing,
                dx.from_block(first), dx.layout, _NO_PLACES,
                last - first, begin, end, dx.height, dx.width, False,
            )  # fmt: skip


class GroupedConvolution(Convolution):
    """A grouped convolution: a dense one, whose weights between groups are 0 and learn nothing.

    Where channels are few this is several times faster than torch; see ``recognition.MOST_GROUPED``.
    """

    def __init__(self, stage: Stage, parameters: Parameters, inputs: Planes, *, needs_gradient: bool) -> None:
        super().__init__(stage, parameters, inputs, needs_gradient=needs_gradient)
        ins, outs, taps, count = inputs.channels, self._outs, prod(self._filter), stage.groups
        self._shape = count, outs // count, ins // count, taps
        self._of_groups = self._weights.reshape(self._shape)
        self._gradient_of_groups = self._gradient.reshape(self._shape)
        self._weights = np.zeros(outs * ins * taps, np.float32)
        self._gradient = np.zeros_like(self._weights)
        self._packed = np.empty_like(self._weights)
        self._flipped = np.empty_like(self._weights) if needs_gradient else None

    def pack(self) -> None:
        """As `Operator.pack`."""
        self._within_groups(self._weights)[:] = self._of_groups
        super().pack()

    def add_weight_gradient(self, first: int, last: int, dz: Planes, places: NDArray[np.uint8]) -> None:
        """As `Operator.add_weight_gradient`."""
        self._gradient.fill(0)
        super().add_weight_gradient(first, last, dz, places)
        self._gradient_of_groups += self._within_groups(self._gradient)

    def _within_groups(self, dense: Floats) -> Floats:
        """What a dense convolution has of weights within groups, as a view."""
        count, outs, ins, taps = self._shape
        within: Floats = np.einsum("gogit->goit", dense.reshape(count, outs, count, ins, taps))
        return within


_NO_PLACES = np.zeros(1, np.uint8)


def _biases(layer: nn.Linear | nn.Conv2d, parameters: Parameters) -> tuple[Floats, Floats]:
    """A layer's biases and their gradient; of a layer without them zeros, and room for what nobody reads."""
    if layer.bias is None:
        channels = layer.weight.shape[0]
        return np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    return parameters.part(parameters.values, layer.bias), parameters.part(parameters.gradient, layer.bias)
