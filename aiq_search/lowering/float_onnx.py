"""A network in float32 as an ONNX: from its plan, where it has one, else traced."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiq_search.errors import InputError, first_line
from aiq_search.lowering.onnx_extra import OPSET, require_onnx
from aiq_search.lowering.plan import Activation, Convolution, Plan, Pool
from aiq_search.lowering.planning import Preprocessing

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["float_model", "traced_onnx"]

_OPERATORS = {
    "elu": "Elu",
    "gelu": "Gelu",
    "gelu_tanh": "Gelu",
    "leaky_relu": "LeakyRelu",
    "relu": "Relu",
    "silu": "Sigmoid",
    "tanh": "Tanh",
}


def float_model(plan: Plan) -> ModelProto:
    """The ONNX of a plan: input ``inputs``, outputs ``logits`` and ``probabilities``.

    Args:
        plan: The network.
    """
    from onnx import TensorProto, helper

    nodes = list(_nodes(plan))
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


def _nodes(plan: Plan) -> Iterator[NodeProto]:
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


# ---- any other network ------------------------------------------------------------------------------------


def traced_onnx(network: nn.Module, preprocessing: Preprocessing) -> bytes:
    """The ONNX of any network, for one sample, to take its time: names as of ``float_model``.

    torch's older exporter runs a network once and notes what it does. Its newer one, which writes the
    ``model.onnx`` of a bundle for any number of samples, takes some ten seconds a network.

    Args:
        network: On normalised inputs.
        preprocessing: Of its raw inputs.

    Raises:
        InputError: The extra ``onnx`` is not installed, or ONNX cannot express the network.
    """
    require_onnx()
    kind = torch.uint8 if preprocessing.input_dtype == "uint8" else torch.float32
    example = torch.zeros((1, *preprocessing.input_shape), dtype=kind)
    try:
        with tempfile.TemporaryDirectory(prefix="aiq-") as folder, _quiet():
            file = Path(folder) / "network.onnx"
            torch.onnx.export(
                _Standalone(network, preprocessing).eval(),
                (example,),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=["inputs"],
                output_names=["logits", "probabilities"],
            )
            return file.read_bytes()
    except Exception as error:  # the exporter raises many kinds, and the network's own code may raise any
        raise InputError(f"torch.onnx cannot translate this network ({first_line(error)})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns that it is the older one, and of what it takes for constants."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


class _Standalone(nn.Module):
    """A network with its normalisation and a softmax."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        shape = (-1, *[1] * (len(preprocessing.input_shape) - 1))
        for name, numbers in (("scale", preprocessing.scale), ("shift", preprocessing.shift)):
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float32).reshape(shape))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(inputs.float() * self.scale + self.shift)
        return logits, logits.softmax(1)
