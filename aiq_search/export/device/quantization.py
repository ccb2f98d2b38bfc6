"""``model_int8.onnx``: eight bits a weight and an activation, by onnxruntime's static quantisation."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiq_search.errors import InputError, first_line
from aiq_search.export.device.plan import Activation, Convolution, Plan, Pool
from aiq_search.export.errors import BundleError
from aiq_search.export.onnx_file import OPSET, checked_onnx, require_onnx

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

__all__ = ["CALIBRATION", "NAME", "Quantised", "dequantised", "quantised_onnx"]

NAME = "model_int8.onnx"
# Training samples, evenly spaced, of which the ranges of all activations are taken.
CALIBRATION = 1000
# What is computed with integers. A ReLU becomes a part of the layer before it; all other activations are
# functions of the 256 values that such a layer gives.
_QUANTISED = ["AveragePool", "Conv", "MaxPool", "Relu"]
_OPERATORS = {
    "elu": "Elu",
    "gelu": "Gelu",
    "gelu_tanh": "Gelu",
    "leaky_relu": "LeakyRelu",
    "relu": "Relu",
    "silu": "Sigmoid",
    "tanh": "Tanh",
}


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
                _float_model(plan),
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
            content = target.read_bytes()
        return checked_onnx(_stripped(content), NAME)
    except BundleError as error:
        raise InputError(str(error)) from None
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


# ---- the network as an ONNX whose names are known --------------------------------------------------------


def _float_model(plan: Plan) -> Any:  # noqa: ANN401 - a ModelProto
    from onnx import TensorProto, helper

    nodes = list(_float_nodes(plan))
    last = nodes[-1].output[0]
    nodes += [
        helper.make_node("Flatten", [last], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    kind = TensorProto.UINT8 if plan.input_dtype == "uint8" else TensorProto.FLOAT
    shape: list[str | int | None] = ["batch", *plan.sample_shape]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", plan.classes])
        for name in ("logits", "probabilities")
    ]
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("inputs", kind, shape)], outputs, _weights(plan)
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="aiq-search")


def _weights(plan: Plan) -> list[TensorProto]:
    from onnx import numpy_helper

    channels = (-1, 1, 1)
    arrays: dict[str, NDArray[Any]] = {
        "shape": np.array([-1, *plan.input_shape]),
        "scale": plan.scale.reshape(channels),
        "shift": plan.shift.reshape(channels),
    }
    for number, step in enumerate(plan.steps):
        if isinstance(step.layer, Convolution):
            arrays |= {f"weight{number}": step.layer.weight, f"bias{number}": step.layer.bias}
    return [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()]


def _float_nodes(plan: Plan) -> Iterator[NodeProto]:
    """The nodes of a network up to what the logits are made from.

    The output of each is called ``value<number>``: what the quantiser finds out about it has that name too.
    """
    from onnx import helper

    yield helper.make_node("Cast", ["inputs"], ["numbers"], to=1)
    yield helper.make_node("Reshape", ["numbers", "shape"], ["shaped"])
    yield helper.make_node("Mul", ["shaped", "scale"], ["scaled"])
    yield helper.make_node("Add", ["scaled", "shift"], ["value0"])
    count = 0
    for number, step in enumerate(plan.steps):
        parts: Sequence[Any] = (step.layer, *step.before, *([step.pool] if step.pool else []), *step.after)
        for part in parts:
            source, target = f"value{count}", f"value{count + 1}"
            count += 1
            if isinstance(part, Activation) and part.function == "silu":
                yield helper.make_node("Sigmoid", [source], [f"sigmoid{count}"])
                yield helper.make_node("Mul", [source, f"sigmoid{count}"], [target])
            else:
                yield _node(part, number, source, target)


def _node(part: Convolution | Pool | Activation, number: int, source: str, target: str) -> NodeProto:
    from onnx import helper

    if isinstance(part, Activation):
        options: dict[str, Any] = {"alpha": part.alpha} if part.function in ("elu", "leaky_relu") else {}
        if part.function == "gelu_tanh":
            options["approximate"] = "tanh"
        return helper.make_node(_OPERATORS[part.function], [source], [target], **options)
    if isinstance(part, Pool):
        kind = "MaxPool" if part.kind == "max" else "AveragePool"
        return helper.make_node(kind, [source], [target], kernel_shape=part.kernel, strides=part.stride)
    return helper.make_node(
        "Conv", [source, f"weight{number}", f"bias{number}"], [target],
        strides=part.stride, dilations=part.dilation, group=part.groups,
        pads=[*part.padding, *part.padding_behind],
    )  # fmt: skip


# ---- reading it again -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Quantised:
    """What onnxruntime made of a network.

    Attributes:
        tensors: The numbers in the file, by name.
        scales: Names of scale and zero of each tensor that is quantised.
    """

    tensors: Mapping[str, NDArray[Any]]
    scales: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, content: bytes) -> Quantised:
        """Read a checked ONNX."""
        import onnx
        from onnx import numpy_helper

        graph = onnx.load_model_from_string(content).graph
        return cls(
            {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer},
            {
                node.input[0]: (node.input[1], node.input[2])
                for node in graph.node
                if node.op_type == "QuantizeLinear" and len(node.input) == 3
            },
        )

    def range(self, value: int) -> tuple[np.float32, int] | None:
        """Scale and zero of the tensor ``value<number>``; None if it has none.

        Raises:
            BundleError: They are not two numbers.
        """
        names = self.scales.get(f"value{value}")
        if names is None:
            return None
        scale, zero = self._array(names[0], np.float32, ()), self._array(names[1], np.int8, ())
        return np.float32(scale), int(zero)

    def layer(self, number: int, layer: Convolution) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Weights (int8), a scale for each output, and biases (int32) of a step's layer.

        Raises:
            BundleError: They are not those of this network.
        """
        outputs = (len(layer.weight),)
        weight = self._array(f"weight{number}_quantized", np.int8, layer.weight.shape)
        scale = self._array(f"weight{number}_scale", np.float32, outputs)
        return weight, scale, self._array(f"bias{number}_quantized", np.int32, outputs)

    def _array(self, name: str, kind: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
        array = self.tensors.get(name)
        if array is None or array.dtype != kind or array.size != math.prod(shape):
            raise BundleError(f"{NAME}: refused: {name} is not what this network has.")
        if array.dtype == np.float32 and not (np.isfinite(array).all() and (array > 0).all()):
            raise BundleError(f"{NAME}: refused: {name} is no scale.")
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
        weight, scale, _ = quantised.layer(number, layer)
        gain = np.ones_like(layer.bias) if layer.gain is None else layer.gain
        by = np.where(gain == 0, 1, gain)[:, None, None, None]
        apart = (weight * scale[:, None, None, None] - layer.weight) / by
        with torch.no_grad():
            module.weight += torch.from_numpy(apart.astype(np.float32)).reshape(module.weight.shape)
    return rounded
