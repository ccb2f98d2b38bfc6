"""Accuracy of a training's network in eight bits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aiq_search.lowering.eight_bits import EightBits
from aiq_search.lowering.planning import RawInputs
from aiq_search.training.run import TrainingRun

__all__ = ["int8_accuracies"]


def int8_accuracies(run: TrainingRun, splits: Iterable[str]) -> dict[str, float]:
    """How accurate the network of the chosen epoch is in eight bits, as ``aiq export`` quantises it.

    Args:
        run: Of at least one epoch.
        splits: Names of the splits to measure on: train, validation or test.

    Returns:
        The accuracy by name of the split.

    Raises:
        InputError: The extra ``onnx`` is not installed here, or the network cannot be quantised.
    """
    data = run.dataset
    calibration = data.train.inputs
    raw = RawInputs(
        "uint8" if calibration.dtype == np.uint8 else "float32",
        data.input_shape,
        data.normalization.scale,
        data.normalization.shift,
    )
    with run.best_model() as model:
        network = EightBits(model, raw, calibration)
    return {name: network.accuracy(data.split(name).inputs, data.split(name).labels) for name in splits}
