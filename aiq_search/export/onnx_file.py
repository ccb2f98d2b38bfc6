"""``model.onnx``: one file, for any number of samples; and its check before a runtime reads it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiq_search.arrays import item_count
from aiq_search.errors import InputError, first_line
from aiq_search.export.errors import BundleError
from aiq_search.lowering.onnx_extra import OPSET, onnx_runner, require_onnx

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

__all__ = ["checked_onnx", "load_onnx", "onnx_bytes"]

NAME = "model.onnx"
# What becomes of the operators that pt2_check allows. Nothing that makes a tensor of any size from a
# number, nothing with a graph inside, no function of another domain.
_OPERATORS = frozenset(
    """
    Abs Add ArgMax AveragePool BatchNormalization Cast CastLike Celu Clip Concat Constant Conv
    DequantizeLinear Div Dropout Elu Erf Exp Flatten Gather GatherND Gelu Gemm GlobalAveragePool
    GlobalMaxPool GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization
    LeakyRelu Log LogSoftmax MatMul Max MaxPool Min Mish Mul Neg PRelu Pow QuantizeLinear Reciprocal
    ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Selu Shape Sigmoid Slice Softmax Softplus Split
    Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where
    """.split()  # noqa: SIM905 - one name a line would be a long list
)


def onnx_bytes(program: torch.export.ExportedProgram) -> bytes:
    """Translate a program to ONNX.

    Args:
        program: Of ``export_program``.

    Returns:
        The bytes of the file: input ``inputs``, outputs ``logits`` and ``probabilities``.

    Raises:
        InputError: The extra is not installed, or ONNX cannot express the network.
    """
    require_onnx()
    try:
        with _quiet():
            translated = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=["inputs"],
                output_names=["logits", "probabilities"],
                verbose=False,
            )
        model = translated.model_proto  # type: ignore[union-attr]
        _strip(model)
        content: bytes = model.SerializeToString()
        checked_onnx(content)
    except BundleError as error:
        raise InputError(str(error)) from None
    except Exception as error:  # the exporter and protobuf raise many kinds
        raise InputError(f"torch.onnx cannot translate this network ({first_line(error)}).") from error
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress, warns of its own future, and logs what it does not need."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _strip(model: ModelProto) -> None:
    """Remove the exporter's notes: source lines and names of this machine's files."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.initializer,
        *graph.value_info,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def load_onnx(content: bytes, name: str = NAME) -> Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]]:
    """Load an ONNX file into onnxruntime, on one thread, after checking that it is one plain network.

    Args:
        content: The bytes of the file.
        name: Of the file, for messages.

    Returns:
        A function from raw inputs to logits and probabilities.

    Raises:
        InputError: The extra is not installed.
        BundleError: The file is damaged, refers to other files, or calls what no network of ours needs.
    """
    require_onnx()
    checked_onnx(content, name)
    try:
        return onnx_runner(content)
    except Exception as error:  # onnxruntime's exceptions are made in C++, without a common base
        raise BundleError(f"{name}: refused: onnxruntime cannot load it ({first_line(error)}).") from None


def checked_onnx(content: bytes, name: str = NAME) -> bytes:
    """The bytes of an ONNX file, once it is known to hold one plain network.

    Args:
        content: Its bytes.
        name: Of the file, for the message.

    Raises:
        BundleError: The file is damaged, refers to other files, or calls what no network of ours needs.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
        _check_graph(name, model)
        onnx.checker.check_model(model)
    except BundleError:
        raise
    except Exception as error:  # protobuf's DecodeError, the checker's ValidationError, and others from C++
        raise BundleError(f"{name}: refused: not a sound ONNX file ({first_line(error)}).") from None
    return content


def _check_graph(name: str, model: ModelProto) -> None:
    graph: GraphProto = model.graph
    if len(model.functions) or len(model.training_info) or len(graph.sparse_initializer):
        raise BundleError(f"{name}: refused: it has functions, training steps or sparse weights.")
    for tensor in graph.initializer:
        _check_tensor(name, tensor)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATORS:
            raise BundleError(
                f"{name}: refused: it calls {node.domain or 'ai.onnx'}::{node.op_type}, "
                "which is not among the functions of a network."
            )
        for attribute in node.attribute:
            if attribute.HasField("g") or len(attribute.graphs) or attribute.HasField("sparse_tensor"):
                raise BundleError(f"{name}: refused: {node.name} has a graph or a sparse tensor inside.")
            for tensor in ((attribute.t,) if attribute.HasField("t") else ()) + tuple(attribute.tensors):
                _check_tensor(name, tensor)
    given = [value.name for value in graph.input], [value.name for value in graph.output]
    if given != (["inputs"], ["logits", "probabilities"]):
        raise BundleError(
            f"{name}: refused: it must take inputs and give logits and probabilities, not {given}."
        )


def _check_tensor(name: str, tensor: TensorProto) -> None:
    """A tensor is in the file itself, with as many bytes as its shape declares."""
    from onnx import TensorProto, helper

    if tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data):
        raise BundleError(f"{name}: refused: its weights {tensor.name!r} are in another file.")
    if tensor.data_type not in _tensor_types():
        raise BundleError(f"{name}: refused: its tensor {tensor.name!r} is of a type that no network has.")
    try:
        declared = item_count(list(tensor.dims))
    except ValueError as error:
        raise BundleError(f"{name}: refused: {tensor.name!r}: {error}.") from None
    if tensor.HasField("raw_data"):
        given, unit = len(tensor.raw_data), "bytes"
        declared *= helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    else:
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
        given, unit = max(map(len, fields)), "numbers"
    if declared != given:
        raise BundleError(
            f"{name}: refused: {tensor.name!r} declares shape {list(tensor.dims)}, {declared:,} {unit}, "
            f"but has {given:,}."
        )


def _tensor_types() -> frozenset[int]:
    from onnx import TensorProto

    names = "BOOL INT8 UINT8 INT16 INT32 INT64 FLOAT16 BFLOAT16 FLOAT DOUBLE"
    return frozenset(TensorProto.DataType.Value(name) for name in names.split())
