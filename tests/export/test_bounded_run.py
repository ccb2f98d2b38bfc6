"""A graph that passes every check, and computes more than the network: it ends, and takes nothing down."""

import resource

import numpy as np
import pytest
import torch
from torch import nn

from aiq_search.export import BundleError
from aiq_search.export.bounded_run import Bounds, run_bounded
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.onnx_file import checked_onnx
from aiq_search.export.pt2 import checked_pt2, export_program, pt2_bytes

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

pytestmark = pytest.mark.slow

RAW = PreprocessingDocument(
    input_dtype="uint8", input_shape=(1, 8, 8), scale=(1,), shift=(0,), classes=("a", "b"),
    training_range=(0, 16),
)  # fmt: skip
BOUNDS = Bounds(batch=500, memory=2**29, seconds=1, classes=2)
SAMPLES = [np.arange(3 * 64, dtype=np.uint8).reshape(3, 1, 8, 8), np.zeros((700, 1, 8, 8), np.uint8)]


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def pt2_of(function):
    return checked_pt2(pt2_bytes(export_program(Function(function), RAW)))


def onnx_of(*nodes, **constants):
    """A graph from ``flat``, (N, 64) float32, to ``logits``; the rest of a bundle's ONNX is added."""
    helper, kinds = onnx.helper, onnx.TensorProto
    shape = constants.pop("shape", ["N", 2])
    nodes = [
        helper.make_node("Cast", ["inputs"], ["numbers"], to=kinds.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["flat"]),
        *(helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("inputs", kinds.UINT8, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info(name, kinds.FLOAT, shape) for name in ("logits", "probabilities")],
        [onnx.numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return checked_onnx(model.SerializeToString())


def two_sums(x):
    return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)


TWO_SUMS = [
    ("ReduceSum", ["flat", "axis"], ["sum"]),
    ("Neg", ["sum"], ["minus"]),
    ("Concat", ["sum", "minus"], ["logits"], {"axis": 1}),
]


@pytest.mark.parametrize(
    ("name", "graph"),
    [("pt2", lambda: pt2_of(two_sums)), ("onnx", lambda: onnx_of(*TWO_SUMS, axis=np.array([1])))],
)
def test_a_graph_is_run_on_every_array_in_batches(name, graph):
    outputs = run_bounded(name, graph(), SAMPLES, BOUNDS)
    for result, array in zip(outputs, SAMPLES, strict=True):
        sums = array.reshape(len(array), -1).sum(1)
        assert result["logits"].tolist() == np.stack([sums, -sums.astype(float)], 1).tolist()
        assert np.allclose(result["probabilities"].sum(1), 1)


def wide(x):
    return nn.functional.adaptive_avg_pool2d(x, (30_000, 30_000)).flatten(1)[:, :2]


def slow(x):
    x = nn.functional.adaptive_avg_pool2d(x[:1], (3000, 3000))[0, 0]
    for _ in range(200):
        x = torch.tanh(x @ x)
    return x[:, :2]


def three(x):
    return x.flatten(1)[:, :3]


DOUBLED = [("Concat", [f"x{i}"] * 2, [f"x{i + 1}"], {"axis": 1}) for i in range(40)]
REPEATED = [("MatMul", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(200)]

GRAPHS = {
    "pt2, memory": ("pt2", lambda: pt2_of(wide), "can't allocate memory"),
    "pt2, time": ("pt2", lambda: pt2_of(slow), "takes more than 1 seconds"),
    "pt2, outputs": ("pt2", lambda: pt2_of(three), r"must give 2 float32 numbers for each sample"),
    "onnx, memory": (
        "onnx",
        lambda: onnx_of(("Identity", ["flat"], ["x0"]), *DOUBLED, ("Identity", ["x40"], ["logits"])),
        r"\w+",
    ),
    "onnx, memory of constants": (
        "onnx",
        lambda: onnx_of(*DOUBLED, ("Add", ["flat", "x40"], ["logits"]), x0=np.zeros((1, 64), np.float32)),
        r"\w+",
    ),
    "onnx, shape": (
        "onnx",
        lambda: onnx_of(("Reshape", ["flat", "to"], ["logits"]), to=np.array([2**40, -1])),
        "Reshape",
    ),
    "onnx, time": (
        "onnx",
        lambda: onnx_of(
            ("MatMul", ["column", "row"], ["x0"]),
            *REPEATED,
            ("ReduceSum", ["x200"], ["all"], {"keepdims": 0}),
            ("Mul", ["flat", "all"], ["logits"]),
            column=np.zeros((4000, 1), np.float32),
            row=np.zeros((1, 4000), np.float32),
        ),
        r"\w+",
    ),
    "onnx, outputs": (
        "onnx",
        lambda: onnx_of(("Identity", ["flat"], ["logits"]), shape=["N", 64]),
        "must give 2 float32 numbers",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_computes_too_much_or_wrongly_is_stopped_with_a_sentence(name):
    kind, graph, reason = GRAPHS[name]
    content = graph()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(
        BundleError, match=rf"^model\.{kind}: (cannot be run \(|refused: )(.*){reason}[^\n]*$"
    ):
        run_bounded(kind, content, SAMPLES, BOUNDS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20
