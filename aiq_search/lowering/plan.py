"""A network as the steps that a device takes, one after the other: what every device format is made from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Activation", "Convolution", "Floats", "Pair", "Plan", "Pool", "Shape", "Step"]

Shape: TypeAlias = tuple[int, int, int]
Pair: TypeAlias = tuple[int, int]
Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Activation:
    """A function of each number.

    Attributes:
        function: elu, gelu, gelu_tanh, leaky_relu, relu, silu or tanh.
        alpha: What elu and leaky_relu multiply negative numbers with.
    """

    function: str
    alpha: float = 0.0


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution; a linear layer is one whose filters are as large as its input.

    Attributes:
        name: Of the module.
        input_shape: (channels, rows, columns).
        output_shape: Likewise.
        weight: (outputs, inputs / groups, rows, columns) of the filters.
        bias: (outputs,).
        stride: Rows and columns from one place to the next.
        padding: Rows and columns of zeros above and to the left of the input.
        dilation: Rows and columns from one weight of a filter to the next.
        groups: How many parts the channels are in that do not see one another.
        gain: What a batch norm behind it has multiplied each output with.
    """

    name: str
    input_shape: Shape
    output_shape: Shape
    weight: Floats
    bias: Floats
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    gain: Floats | None = None

    @property
    def padded(self) -> bool:
        """Whether a filter reaches beyond the input anywhere."""
        return any((*self.padding, *self.padding_behind))

    @property
    def padding_behind(self) -> Pair:
        """Rows and columns of zeros below and to the right."""
        rows, columns = (
            max(0, (size - 1) * stride + (kernel - 1) * dilation + 1 - before - length)
            for size, stride, kernel, dilation, before, length in zip(
                self.output_shape[1:],
                self.stride,
                self.weight.shape[2:],
                self.dilation,
                self.padding,
                self.input_shape[1:],
                strict=True,
            )
        )
        return rows, columns

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return math.prod(self.output_shape) * math.prod(self.weight.shape[1:])


@dataclass(frozen=True)
class Pool:
    """The largest number of each window, or their mean; windows do not reach beyond the input."""

    name: str
    kind: Literal["max", "average"]
    input_shape: Shape
    output_shape: Shape
    kernel: Pair
    stride: Pair


@dataclass(frozen=True, eq=False)
class Step:
    """A layer with what follows it, computed together: nothing between them needs memory.

    Attributes:
        layer: A convolution, or a pool that could not be computed with one.
        before: Activations of each of its numbers.
        pool: A pool of these.
        after: Activations behind the pool.
    """

    layer: Convolution | Pool
    before: tuple[Activation, ...] = ()
    pool: Pool | None = None
    after: tuple[Activation, ...] = ()

    @property
    def output_shape(self) -> Shape:
        """Of one sample."""
        return (self.pool or self.layer).output_shape

    @property
    def in_place(self) -> bool:
        """Whether the output may take the place of the input.

        A pool's windows begin at or behind the place of their own output, in the order of computation.
        """
        return isinstance(self.layer, Pool)


@dataclass(frozen=True, eq=False)
class Plan:
    """A network on raw inputs: they are multiplied with a scale, shifted, and go through the steps.

    Attributes:
        steps: In the order of computation.
        input_dtype: uint8 or float32.
        scale: One number a channel of the input.
        shift: Likewise.
        sample_shape: Of a raw sample as it is stored.
    """

    steps: tuple[Step, ...]
    input_dtype: Literal["uint8", "float32"]
    scale: Floats
    shift: Floats
    sample_shape: tuple[int, ...]

    @property
    def input_shape(self) -> Shape:
        """Of one raw sample."""
        return self.steps[0].layer.input_shape

    @property
    def parts(self) -> int:
        """Layers, activations and pools."""
        return sum(1 + len(step.before) + (step.pool is not None) + len(step.after) for step in self.steps)

    @property
    def has_means(self) -> bool:
        """Whether there is an average pool."""
        pools = (part for step in self.steps for part in (step.layer, step.pool) if isinstance(part, Pool))
        return any(pool.kind == "average" for pool in pools)

    @property
    def inputs(self) -> int:
        """Numbers of one raw sample."""
        return math.prod(self.input_shape)

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return math.prod(self.steps[-1].output_shape)

    @property
    def normalised(self) -> bool:
        """Whether scale and shift change nothing."""
        return bool((self.scale == 1).all() and (self.shift == 0).all())

    @property
    def convolutions(self) -> list[Convolution]:
        """Every layer with weights."""
        return [step.layer for step in self.steps if isinstance(step.layer, Convolution)]

    @property
    def weights(self) -> int:
        """Numbers that a device stores: filters and biases."""
        return sum(layer.weight.size + layer.bias.size for layer in self.convolutions)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(layer.macs for layer in self.convolutions)

    def places(self, *, of_input: bool = False) -> tuple[list[int], int]:
        """Where each step but the last puts its output, and how many numbers there must be room for.

        Outputs lie alternately at the start and at the end of the room, which is as large as the largest
        input and output together. A pool by itself writes over its input. The raw input and the logits are
        the caller's.

        Args:
            of_input: Whether the input lies there too, as an output before all others.

        Returns:
            Offset of each output, and the size of the room.
        """
        outputs = [(math.prod(step.output_shape), not step.in_place) for step in self.steps[:-1]]
        if of_input:
            outputs = [(self.inputs, True), *outputs]
        elif outputs:
            outputs[0] = (outputs[0][0], True)  # the raw input is not to be overwritten
        taken = [size for size, new in outputs if new]  # a place for each output that takes one of its own
        room = max((sum(pair) for pair in zip([0, *taken], taken, strict=False)), default=0)
        offsets: list[int] = []
        number = -1
        for _, new in outputs:
            number += new
            offsets.append(room - taken[number] if number % 2 else 0)
        return offsets, room

    def folded(self) -> Plan:
        """The same with the normalisation in the weights of the first layer, where that is as exact.

        Images of bytes, whose numbers are small; with padding it is not possible, since zeros are added to
        what is normalised.
        """
        first = self.steps[0].layer
        if self.input_dtype != "uint8" or not isinstance(first, Convolution) or first.padded:
            return self
        each = first.weight.shape[1]
        group = np.arange(len(first.weight)) // (len(first.weight) // first.groups)
        channels = group[:, None] * each + np.arange(each)
        weight = first.weight.astype(np.float64)
        shift = self.shift.astype(np.float64)[channels][..., None, None]
        scale = self.scale.astype(np.float64)[channels][..., None, None]
        bias = first.bias.astype(np.float64)
        for part in (weight * shift).reshape(len(weight), -1).T:  # in one order on every machine
            bias = bias + part
        layer = replace(first, weight=(weight * scale).astype(np.float32), bias=bias.astype(np.float32))
        ones = np.ones_like(self.scale)
        steps = (replace(self.steps[0], layer=layer), *self.steps[1:])
        return replace(self, steps=steps, scale=ones, shift=0 * ones)
