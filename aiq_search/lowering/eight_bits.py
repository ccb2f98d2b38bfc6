"""How accurate a network is in eight bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from aiq_search.lowering.onnx_extra import onnx_runner
from aiq_search.lowering.planning import Preprocessing, plan_network
from aiq_search.lowering.quantization import quantised_onnx

__all__ = ["EightBits"]

_BATCH = 500


class EightBits:
    """A network in eight bits, run by onnxruntime.

    It is the network that ``aiq export`` writes: quantised in the same way, from the same samples.

    Args:
        network: In float32, on normalised inputs.
        preprocessing: Of its raw inputs.
        calibration: Raw inputs of the training split.

    Raises:
        InputError: The extra ``onnx`` is not installed, or the network cannot be quantised.

    Example:
        >>> from aiq_search.lowering.planning import RawInputs
        >>> network = nn.Sequential(nn.Linear(2, 2, bias=False))
        >>> _ = nn.init.eye_(network[0].weight)
        >>> samples = np.array([[1, 0], [0, 1]], np.float32)
        >>> raw = RawInputs("float32", (2,), scale=(1, 1), shift=(0, 0))
        >>> EightBits(network, raw, samples).accuracy(samples, np.array([0, 1]))
        1.0
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, calibration: NDArray[Any]) -> None:
        self._run = onnx_runner(quantised_onnx(plan_network(network, preprocessing), calibration))

    def accuracy(self, inputs: NDArray[Any], labels: NDArray[np.int64]) -> float:
        """Share of samples whose label has the largest logit.

        Args:
            inputs: Raw, (N, ...).
            labels: (N,).
        """
        right = 0
        for start in range(0, len(inputs), _BATCH):
            batch = slice(start, start + _BATCH)
            logits = self._run(np.ascontiguousarray(inputs[batch]))["logits"]
            right += int((logits.argmax(1) == labels[batch]).sum())
        return right / len(inputs)
