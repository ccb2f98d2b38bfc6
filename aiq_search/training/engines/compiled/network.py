"""A whole network: a step of learning, and a measurement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from aiq_search.training.engines.compiled.arrays import Floats, Parameters, Planes, blocks_for
from aiq_search.training.engines.compiled.layers import NONE, cross_entropy, finish, gather
from aiq_search.training.engines.compiled.recognition import Stage
from aiq_search.training.engines.compiled.stages import Batch, StageKernels
from aiq_search.training.engines.compiled.states import LayerStates
from aiq_search.training.engines.compiled.vectors import (
    LANES,
)

__all__ = ["CompiledNetwork"]

# A measurement takes at least so many samples at a time.
_MEASURED = 128


class CompiledNetwork:
    """A recognised network, its arrays and kernels.

    Attributes:
        parameters: The network's parameters, which torch sees too.

    Args:
        model: The network.
        stages: What ``recognise`` made of it.
        input_shape: Channels, height and width of a sample; features are channels of one position.
        samples: The largest batch.
        scale: What samples are multiplied by, one number a channel or one for all.
        shift: What is then added, likewise.
    """

    def __init__(
        self,
        model: nn.Module,
        stages: Sequence[Stage],
        input_shape: tuple[int, int, int],
        samples: int,
        scale: Floats,
        shift: Floats,
    ) -> None:
        self.parameters = Parameters(model)
        blocks = blocks_for(max(samples, _MEASURED))
        borders = [_padding(stage) for stage in stages]
        self._inputs = Planes.empty(blocks, input_shape, borders[0])
        self._raw = self._inputs if borders[0] == (0, 0) else Planes.empty(blocks, input_shape)
        self._scale, self._shift = (
            np.broadcast_to(numbers.ravel(), input_shape[0]).astype(np.float32) for numbers in (scale, shift)
        )
        self._stages: list[StageKernels] = []
        inputs = self._inputs
        for index, stage in enumerate(stages):
            border = borders[index + 1] if index + 1 < len(stages) else (0, 0)
            kernels = StageKernels(stage, self.parameters, inputs, border, reads_samples=index == 0)
            self._stages.append(kernels)
            inputs = kernels.outputs
        self._starts = np.zeros(blocks * LANES, np.int64)
        self._used = np.zeros(blocks * LANES, np.float32)
        self._nothing = np.zeros(1, np.float32)

    def learn(
        self,
        raw: NDArray[Any],
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        smoothing: float = 0.0,
    ) -> float:
        """Compute the gradient of the mean loss of a batch; the parameters stay as they are.

        Args:
            raw: All samples, flat: uint8 or float32.
            labels: Of all samples.
            indices: Which samples are the batch.
            smoothing: Share of each label that is spread over all classes.

        Returns:
            The sum of the samples' losses.
        """
        batch = self._take(raw, indices)
        for stage in self._stages:
            stage.forward(batch)
        self.parameters.gradient.fill(0)
        loss, _ = self._loss(labels[indices], batch, learn=True, smoothing=smoothing)
        for index in range(len(self._stages) - 1, -1, -1):
            inputs = self._stages[index - 1].gradient if index else None
            self._stages[index].backward(batch, inputs)
        return loss

    def measure(
        self,
        raw: NDArray[Any],
        labels: NDArray[np.int64],
        samples: int,
        layers: Collection[str],
        order: float = 1.0,
    ) -> tuple[float, int, dict[str, float]]:
        """Measure the network on the first so many samples.

        Args:
            raw: All samples, flat: uint8 or float32.
            labels: Of all samples.
            samples: How many.
            layers: Names of the layers whose states are counted.
            order: Order of the entropy.

        Returns:
            The sum of the losses, the number of right answers, and the efficiencies of the layers by name.
        """
        states = [
            LayerStates(each.stage.outputs[0], order) if each.stage.name in layers else None
            for each in self._stages
        ]
        loss, right = 0.0, 0
        size = self._inputs.blocks * LANES
        for first in range(0, samples, size):
            indices = np.arange(first, min(samples, first + size))
            batch = self._take(raw, indices)
            for stage, counted in zip(self._stages, states, strict=True):
                stage.measure(batch, counted)
            part, correct = self._loss(labels[indices], batch, learn=False)
            loss += part
            right += correct
        counted_of = zip(self._stages, states, strict=True)
        return loss, right, {each.stage.name: c.efficiency() for each, c in counted_of if c is not None}

    def _take(self, raw: NDArray[Any], indices: NDArray[np.int64]) -> Batch:
        """Bring samples into the lanes, normalised."""
        samples = len(indices)
        batch = Batch(samples, blocks_for(samples), self._used)
        features = prod((self._inputs.channels, self._inputs.height, self._inputs.width))
        np.multiply(indices, features, out=self._starts[:samples])
        # A lane without a sample holds the first one, so that all numbers in it are as usual.
        self._starts[samples : batch.blocks * LANES] = self._starts[0]
        self._used[:samples] = 1
        self._used[samples : batch.blocks * LANES] = 0
        gather(str(raw.dtype))(raw, self._starts, features, self._raw.array, batch.blocks)
        x = self._inputs
        finish(
            self._raw.array, self._raw.layout, self._scale, self._shift, 1, 1, _NO_PLACES, NONE, 0.0,
            self._nothing, False, x.array, x.layout, batch.blocks, x.channels, x.height, x.width,
        )  # fmt: skip
        return batch

    def _loss(
        self, labels: NDArray[np.int64], batch: Batch, *, learn: bool, smoothing: float = 0.0
    ) -> tuple[float, int]:
        last = self._stages[-1]
        classes = prod(last.stage.pooled)
        loss, right = cross_entropy(
            last.outputs.array, labels, last.gradient.array, batch.samples, classes, learn, smoothing
        )
        return loss, right


_NO_PLACES = np.zeros(1, np.uint8)


def _padding(stage: Stage) -> tuple[int, int]:
    layer = stage.layer
    if not isinstance(layer, nn.Conv2d) or isinstance(layer.padding, str):
        return 0, 0
    height, width = layer.padding
    return height, width
