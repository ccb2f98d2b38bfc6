"""Batch norm: the statistics of a batch, and its part of the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from aiq_search.training.engines.compiled.arrays import Floats, Parameters, Planes
from aiq_search.training.engines.compiled.layers import centred_sums, norm_sums, normalise_gradient

__all__ = ["Normalisation"]


class Normalisation:
    """A batch norm (Ioffe and Szegedy, 2015) over channels.

    Args:
        module: The network's own module, whose running statistics are kept up to date.
        parameters: Of the network.
    """

    def __init__(self, module: nn.BatchNorm1d | nn.BatchNorm2d, parameters: Parameters) -> None:
        self._module = module
        self._scale = parameters.part(parameters.values, module.weight)
        self._shift = parameters.part(parameters.values, module.bias)
        self._scale_gradient = parameters.part(parameters.gradient, module.weight)
        self._shift_gradient = parameters.part(parameters.gradient, module.bias)
        if module.running_mean is None or module.running_var is None:
            raise ValueError("a batch norm without running statistics cannot be measured")
        self._running = module.running_mean.numpy(), module.running_var.numpy()
        channels = len(self._scale)
        self._nothing = np.zeros(channels, np.float32)
        self._mean = np.zeros(channels, np.float32)
        self._slope = np.zeros(channels)  # 1 / standard deviation
        self._factors: tuple[Floats, Floats, Floats] = (self._nothing,) * 3

    def of_batch(self, z: Planes, used: Floats, samples: int, blocks: int) -> tuple[Floats, Floats]:
        """The scale and shift that normalise a batch; the running statistics learn from it."""
        module, count = self._module, samples * z.height * z.width
        if count < 2:
            raise ValueError("a batch norm cannot learn from a single value a channel; take a larger batch")
        mean = self._sums(z, self._nothing, 1, used, blocks) / count
        self._mean = mean.astype(np.float32)
        variance = self._sums(z, self._mean, 2, used, blocks) / count - (mean - self._mean) ** 2
        self._slope = 1 / np.sqrt(variance + module.eps)
        unbiased = variance * count / (count - 1)
        share = module.momentum or 0.0
        for kept, now in zip(self._running, (mean, unbiased), strict=True):
            kept[:] = (1 - share) * kept + share * now
        if module.num_batches_tracked is not None:
            module.num_batches_tracked.add_(1)
        return _affine(self._scale, self._shift, mean, self._slope)

    def of_past(self) -> tuple[Floats, Floats]:
        """The scale and shift of the running statistics."""
        mean, variance = (running.astype(np.float64) for running in self._running)
        return _affine(self._scale, self._shift, mean, 1 / np.sqrt(variance + self._module.eps))

    def sum_gradient(
        self, behind: tuple[Any, ...], z: Planes, samples: int, shape: tuple[int, int, int, int]
    ) -> None:
        """Write the gradients of scale and shift, and prepare `change_gradient`.

        Args:
            behind: What lies behind the norm, as ``norm_sums`` takes it.
            z: What was normalised.
            samples: In the batch.
            shape: Blocks, channels, height and width behind the norm.
        """
        plain, centred = np.empty((2, z.channels))
        norm_sums(*behind, z.array, z.layout, self._mean, plain, centred, *shape)
        self._shift_gradient[:] = plain
        self._scale_gradient[:] = centred * self._slope
        count = samples * z.height * z.width
        self._factors = (
            (self._scale * self._slope).astype(np.float32),
            (plain / count).astype(np.float32),
            (centred * self._slope**2 / count).astype(np.float32),
        )

    def change_gradient(
        self, dz: Planes, z: Planes, first: int, used: Floats, bias: Floats, blocks: int
    ) -> None:
        """Turn the gradient behind the norm into that before it, for some blocks from ``first`` on."""
        normalise_gradient(
            dz.array, dz.layout, z.from_block(first), z.layout, self._mean, *self._factors, used, bias,
            blocks, z.channels, z.height, z.width,
        )  # fmt: skip

    def _sums(self, z: Planes, centre: Floats, power: int, used: Floats, blocks: int) -> NDArray[np.float64]:
        result = np.empty(z.channels)
        centred_sums(z.array, z.layout, centre, power, used, result, blocks, z.channels, z.height, z.width)
        return result


def _affine(
    scale: Floats, shift: Floats, mean: NDArray[np.float64], slope: NDArray[np.float64]
) -> tuple[Floats, Floats]:
    """``scale (z - mean) slope + shift`` as one factor and one summand."""
    factor = scale * slope
    return factor.astype(np.float32), (shift - mean * factor).astype(np.float32)
