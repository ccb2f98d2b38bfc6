"""``model_int8.onnx``: eight bits a weight and an activation, by onnxruntime's static quantisation."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiq_search.errors import InputError, first_line
from aiq_search.lowering.float_onnx import float_model
from aiq_search.lowering.onnx_extra import require_onnx
from aiq_search.lowering.plan import Convolution, Plan

__all__ = ["CALIBRATION", "NAME", "Quantised", "QuantisedLayer", "dequantised", "quantised_onnx"]

NAME = "model_int8.onnx"
# Training samples, evenly spaced, of which the ranges of all activations are taken.
CALIBRATION = 1000
# What is computed with integers. A ReLU becomes a part of the layer before it; all other activations are
# functions of the 256 values that such a layer gives.
_QUANTISED = ["AveragePool", "Conv", "MaxPool", "Relu"]


def quantised_onnx(plan: Plan, samples: NDArray[Any]) -> bytes:
    """Quantise a network: int8, per channel for weights, ranges of activations from samples.

    Weights have seven bits and a sign: with eight, processors without VNNI add up products with saturation,
    and the answers would depend on the machine.

    Args:
        plan: The network.
        samples: Raw inputs of the training split.

    Returns:
        The bytes of the ONNX: inputs and outputs as of ``model.onnx``.

    Raises:
        InputError: The extra ``onnx`` is not installed, or the network cannot be quantised.
    """
    require_onnx()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    chosen = samples[np.linspace(0, len(samples) - 1, min(CALIBRATION, len(samples))).astype(int)]
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            target = Path(folder) / NAME
            quantize_static(
                float_model(plan),
                target,
                _reader(chosen),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_QUANTISED,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"ForceQuantizeNoInputCheck": True},  # pools of integers, behind any activation
            )
            return _stripped(target.read_bytes())
    except Exception as error:  # onnxruntime and protobuf raise many kinds
        raise InputError(f"onnxruntime cannot quantise this network ({first_line(error)}).") from error


def _reader(samples: NDArray[Any]) -> Any:  # noqa: ANN401 - a class of a library that is imported late
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(np.array_split(samples, max(1, len(samples) // 100)))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"inputs": batch}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser recommends its own preparation, which is for graphs that others exported."""
    level = logging.root.level
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        logging.root.setLevel(level)


def _stripped(content: bytes) -> bytes:
    """Without the notes of the library."""
    import onnx

    model = onnx.load_model_from_string(content)
    for part in (model, model.graph, *model.graph.node):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return bytes(model.SerializeToString())


# ---- reading it again -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class QuantisedLayer:
    """A layer in eight bits.

    Attributes:
        weight: int8, of the shape of the layer's weight.
        scale: float32, one for each output.
        bias: int32, likewise.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Quantised:
    """What onnxruntime made of a network.

    Attributes:
        ranges: Scale and zero of the tensors ``value<number>`` that are quantised, by number.
        layers: The layers with weights, by the number of their step.
    """

    ranges: Mapping[int, tuple[np.float32, int]]
    layers: Mapping[int, QuantisedLayer]

    @classmethod
    def of(cls, content: bytes, plan: Plan) -> Quantised:
        """Read an ONNX of ``quantised_onnx``; a stranger's has to be checked first.

        Args:
            content: Its bytes.
            plan: The network that it should be of.

        Raises:
            InputError: It is of another network.
        """
        import onnx
        from onnx import numpy_helper

        graph = onnx.load_model_from_string(content).graph
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        steps = {
            node.input[0]: (node.input[1], node.input[2])
            for node in graph.node
            if node.op_type == "QuantizeLinear" and len(node.input) == 3
        }
        ranges = {
            number: _range(tensors, *steps[f"value{number}"])
            for number in range(plan.parts + 1)
            if f"value{number}" in steps
        }
        return cls(
            ranges,
            {
                number: _layer(tensors, number, step.layer)
                for number, step in enumerate(plan.steps)
                if isinstance(step.layer, Convolution)
            },
        )


def _range(tensors: Mapping[str, NDArray[Any]], scale: str, zero: str) -> tuple[np.float32, int]:
    return (
        np.float32(_array(tensors, scale, np.float32, ())),
        int(_array(tensors, zero, np.int8, ())),
    )


def _layer(tensors: Mapping[str, NDArray[Any]], number: int, layer: Convolution) -> QuantisedLayer:
    outputs = (len(layer.weight),)
    return QuantisedLayer(
        _array(tensors, f"weight{number}_quantized", np.int8, layer.weight.shape),
        _array(tensors, f"weight{number}_scale", np.float32, outputs),
        _array(tensors, f"bias{number}_quantized", np.int32, outputs),
    )


def _array(
    tensors: Mapping[str, NDArray[Any]], name: str, kind: type[np.generic], shape: tuple[int, ...]
) -> NDArray[Any]:
    array = tensors.get(name)
    if array is None or array.dtype != kind or array.size != math.prod(shape):
        raise InputError(f"{name} is not what this network has.")
    if array.dtype == np.float32 and not (np.isfinite(array).all() and (array > 0).all()):
        raise InputError(f"{name} is no scale.")
    return array.reshape(shape)


def dequantised(network: nn.Module, plan: Plan, quantised: Quantised) -> nn.Module:
    """A network with the weights that its quantised form computes with, as float32.

    A batch norm stays where it is, so that states are read at the same places as before.

    Args:
        network: The network.
        plan: Its plan.
        quantised: Its quantised form.
    """
    rounded = copy.deepcopy(network)
    for number, step in enumerate(plan.steps):
        layer = step.layer
        module = rounded.get_submodule(layer.name) if isinstance(layer, Convolution) else None
        if not isinstance(layer, Convolution) or not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            continue  # a pool, or a batch norm by itself
        eight = quantised.layers[number]
        gain = np.ones_like(layer.bias) if layer.gain is None else layer.gain
        by = np.where(gain == 0, 1, gain)[:, None, None, None]
        apart = (eight.weight * eight.scale[:, None, None, None] - layer.weight) / by
        with torch.no_grad():
            module.weight += torch.from_numpy(apart.astype(np.float32)).reshape(module.weight.shape)
    return rounded
