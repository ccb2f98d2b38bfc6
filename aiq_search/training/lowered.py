"""A training's network as small machines compute it: its accuracy in eight bits, and what a sample costs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable

import numpy as np
import torch

from aiq_search.datasets import Dataset
from aiq_search.lowering.costs import CostMeter
from aiq_search.lowering.eight_bits import EightBits
from aiq_search.lowering.planning import RawInputs
from aiq_search.statespace import evaluation_mode
from aiq_search.training.run import TrainingRun

__all__ = ["costs", "int8_accuracies"]


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
    with run.best_model() as model:
        network = EightBits(model, _raw_inputs(data), data.train.inputs)
    return {name: network.accuracy(data.split(name).inputs, data.split(name).labels) for name in splits}


def costs(run: TrainingRun, names: Iterable[str], meter: CostMeter) -> dict[str, float]:
    """What one sample costs a network, with the weights that it has now.

    Args:
        run: Of any number of epochs.
        names: Which costs; see ``CostMeter``.
        meter: Measures them.

    Raises:
        InputError: The network has none of these costs, or the extra ``onnx`` is not installed here.
    """
    data = run.dataset
    architecture = json.dumps(run.architecture.document(), sort_keys=True)
    sample = np.ascontiguousarray(data.validation.inputs[:1])
    model = run.model if run.device.type == "cpu" else copy.deepcopy(run.model).to("cpu")
    with evaluation_mode(model), torch.random.fork_rng(devices=[]):  # what is trained does not depend on it
        return meter.costs(names, architecture, model, _raw_inputs(data), sample)


def _raw_inputs(data: Dataset) -> RawInputs:
    return RawInputs(
        "uint8" if data.train.inputs.dtype == np.uint8 else "float32",
        data.input_shape,
        data.normalization.scale,
        data.normalization.shift,
    )
