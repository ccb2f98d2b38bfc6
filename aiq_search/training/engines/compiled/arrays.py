"""The arrays that the kernels work on, and how they lie in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiq_search.training.engines.compiled.vectors import (
    LANES,
)

__all__ = ["Floats", "Parameters", "Planes", "blocks_for"]

Floats = NDArray[np.float32]


def blocks_for(samples: int) -> int:
    """Blocks of lanes that hold so many samples."""
    return -(-samples // LANES)


@dataclass(frozen=True)
class Planes:
    """Channels of images for some blocks of samples, a flat array; zero where nothing was written.

    Attributes:
        array: ``(blocks, channels, *size, lanes)``, flat.
        channels: Channels of an image.
        height: Rows of an image that are used.
        width: Columns, likewise.
        size: All rows and columns, with those that stay zero.
        skip: The first used row and column.
        step: From one used row or column to the next.
    """

    array: Floats
    channels: int
    height: int
    width: int
    size: tuple[int, int]
    skip: tuple[int, int] = (0, 0)
    step: int = 1

    @classmethod
    def empty(cls, blocks: int, shape: tuple[int, int, int], border: tuple[int, int] = (0, 0)) -> Planes:
        """Room for so many blocks of images of a shape (channels, height, width), in a border of zeros."""
        size = shape[1] + 2 * border[0], shape[2] + 2 * border[1]
        return cls.within(blocks, shape, size, border)

    @classmethod
    def within(
        cls,
        blocks: int,
        shape: tuple[int, int, int],
        size: tuple[int, int],
        skip: tuple[int, int],
        step: int = 1,
    ) -> Planes:
        """Room for so many blocks of images of a shape in larger ones."""
        planes = cls(np.zeros(0, np.float32), *shape, size, skip, step)
        return replace(planes, array=np.zeros(blocks * planes.block, np.float32))

    @cached_property
    def layout(self) -> NDArray[np.int64]:
        """Of what is used: where it begins, and the distances of blocks, channels, rows and columns."""
        first = self.skip[0] * self.row + self.skip[1] * LANES
        return np.array([first, self.block, self.channel, self.step * self.row, self.step * LANES])

    @cached_property
    def whole(self) -> NDArray[np.int64]:
        """Likewise of everything, zeros included."""
        return np.array([0, self.block, self.channel, self.row, LANES])

    @property
    def used(self) -> tuple[int, int, int, int]:
        """The first row and column that may not be zero, and from there how many rows and columns."""
        top, left = self.skip
        return top, left, self.step * (self.height - 1) + 1, self.step * (self.width - 1) + 1

    @property
    def row(self) -> int:
        """Numbers of a row."""
        return self.size[1] * LANES

    @property
    def channel(self) -> int:
        """Numbers of a channel."""
        return self.size[0] * self.row

    @property
    def block(self) -> int:
        """Numbers of a block."""
        return self.channels * self.channel

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.array) // self.block

    def from_block(self, first: int) -> Floats:
        """The array from a block on."""
        return self.array[first * self.block :]


class Parameters:
    """All parameters of a network in one array, and their gradients in another.

    The network's own parameters become views of the array: what a kernel changes, torch sees, and the
    other way round.

    Attributes:
        values: The parameters, in the order of ``model.parameters()``.
        gradient: Their gradients, likewise.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = list(model.parameters())
        size = sum(parameter.numel() for parameter in parameters)
        self.values: Floats = np.empty(size, np.float32)
        self.gradient: Floats = np.zeros(size, np.float32)
        self._ranges: dict[int, slice] = {}
        first = 0
        for parameter in parameters:
            where = slice(first, first + parameter.numel())
            self._ranges[id(parameter)] = where
            parameter.data = self.view(self.values, parameter).copy_(parameter.detach())
            first = where.stop

    def part(self, array: Floats, parameter: torch.Tensor) -> Floats:
        """The part of an array like ``values`` that belongs to a parameter, flat."""
        return array[self._ranges[id(parameter)]]

    def view(self, array: Floats, parameter: torch.Tensor) -> torch.Tensor:
        """That part as a tensor of the parameter's shape."""
        return torch.from_numpy(self.part(array, parameter)).view(parameter.shape)
