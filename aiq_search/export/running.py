"""Running the formats of a bundle, and how far two of them may differ; ``writing`` writes them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiq_search.errors import first_line
from aiq_search.export.bounded_run import Bounds, run_bounded
from aiq_search.export.bundle import Bundle
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.errors import BundleError, BundleMismatchError
from aiq_search.export.network import StandaloneNetwork
from aiq_search.export.onnx_file import checked_onnx, load_onnx
from aiq_search.export.pt2 import checked_pt2, load_pt2
from aiq_search.export.weights import NAME as WEIGHTS
from aiq_search.lowering.onnx_extra import onnx_available
from aiq_search.memory import available_memory
from aiq_search.models import layer_outputs

__all__ = [
    "Difference",
    "Outputs",
    "Runner",
    "batch_size",
    "compare",
    "load_formats",
    "run_formats",
    "run_in_batches",
    "standalone_runner",
]

Outputs: TypeAlias = Mapping[str, NDArray[np.float32]]
Runner: TypeAlias = Callable[[NDArray[Any]], Outputs]

ONNX_FILES = {"onnx": "model.onnx", "int8": "model_int8.onnx"}

# Two formats add the same products in another order. What float32 loses by that grows with the terms of
# the sum, so it is compared with the sample's largest logit: one that is near 0 because large terms cancel
# has no relative accuracy of its own. Compared with each logit alone, torch on MNIST champions is up to
# 1.5e-5 from its own result in float64, and 1.8e-5 from itself without oneDNN; compared like this, any two
# were at most 5.1e-6 apart.
TOLERANCE = 1e-5
# Where the two best classes are nearer than this, either may win.
TIE = 1e-4
# Samples at once, fewer where the activations of so many would take more than these bytes.
BATCH_SIZE = 500
_BATCH_BYTES = 2**29
# What a stranger's graph may take: this much, and so many times what the network itself takes.
_FLOOR_BYTES = 2**31
_FLOOR_SECONDS = 1
_TIMES = 16
# Activations that are held at once, of all that a network has: about twice the largest in practice.
_COPIES = 2


def run_formats(
    bundle: Bundle, samples: Sequence[NDArray[Any]], *, trusted: bool
) -> dict[str, list[Outputs]]:
    """Run every format that the bundle holds and this machine can run, each one checked before it is loaded.

    Args:
        bundle: The bundle.
        samples: Arrays of raw inputs.
        trusted: Whether this process wrote the pt2 and the ONNXs. They run in processes of their own
            otherwise, whose memory and time are bounded by those of the network itself.

    Returns:
        Logits and probabilities of each array, by the name of the format.

    Raises:
        BundleError: A file is damaged or unsafe, or a format fails.
    """
    size = batch_size(bundle)
    if trusted:
        return {
            name: [run_in_batches(name, run, array, size) for array in samples]
            for name, run in load_formats(bundle.model, bundle.preprocessing, bundle.files).items()
        }
    graphs = _checked_graphs(bundle)  # first, since nothing of a damaged bundle should run
    begun = time.process_time()
    own = standalone_runner(bundle.model, bundle.preprocessing)
    outputs = {"safetensors": [run_in_batches("safetensors", own, array, size) for array in samples]}
    bounds = Bounds(
        batch=size,
        memory=min(
            available_memory(),
            _FLOOR_BYTES + _TIMES * (size * _activation_bytes(bundle) + len(bundle.files[WEIGHTS])),
        ),
        seconds=_FLOOR_SECONDS + math.ceil(_TIMES * (time.process_time() - begun)),
        classes=bundle.architecture.classes,
    )
    with ThreadPoolExecutor() as pool:
        for name, run in [
            (name, pool.submit(run_bounded, name, graph, samples, bounds)) for name, graph in graphs.items()
        ]:
            outputs[name] = run.result()
    return outputs


def load_formats(
    network: nn.Module, preprocessing: PreprocessingDocument, files: Mapping[str, bytes]
) -> dict[str, Runner]:
    """A network and every graph of it that this machine can run, loaded into this process.

    Args:
        network: On normalised inputs.
        preprocessing: Of its raw inputs.
        files: Of a bundle; each is checked before it is loaded, but its graphs may compute without end.

    Returns:
        Functions from raw inputs to logits and probabilities, by the name of the format.

    Raises:
        BundleError: A file is damaged or unsafe.
    """
    runners = {"safetensors": standalone_runner(network, preprocessing)}
    if "model.pt2" in files:
        runners["pt2"] = _torch_runner(load_pt2(files["model.pt2"]))
    for name, file in ONNX_FILES.items():
        if file in files and onnx_available():
            runners[name] = load_onnx(files[file], file)
    return runners


def _checked_graphs(bundle: Bundle) -> dict[str, bytes]:
    graphs = {}
    if "model.pt2" in bundle.files:
        graphs["pt2"] = checked_pt2(bundle.files["model.pt2"])
    for name, file in ONNX_FILES.items():
        if file in bundle.files and onnx_available():
            graphs[name] = checked_onnx(bundle.files[file], file)
    return graphs


def standalone_runner(network: nn.Module, preprocessing: PreprocessingDocument) -> Runner:
    """A network on normalised inputs as a function from raw inputs to logits and probabilities."""
    return _torch_runner(StandaloneNetwork(network, preprocessing))


def _torch_runner(model: Callable[[Tensor], Mapping[str, Tensor]]) -> Runner:
    def run(inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(np.array(inputs)))  # a copy: the array may be read-only
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return run


def batch_size(bundle: Bundle, at_least: int = 1) -> int:
    """How many samples to run at once, so that their activations fit the memory.

    Args:
        bundle: The bundle.
        at_least: Samples that must fit.

    Raises:
        BundleError: So many do not.
    """
    each = _activation_bytes(bundle)
    needed, free = _COPIES * each * at_least, available_memory()
    if needed > free:
        raise BundleError(
            f"architecture.json: running {at_least} samples at once takes {needed:,} bytes in this network, "
            f"but only {free:,} bytes of memory are free."
        )
    return max(1, min(BATCH_SIZE, _BATCH_BYTES // each))


def _activation_bytes(bundle: Bundle) -> int:
    """About what the outputs of a network's layers take for one sample, and the sample itself."""
    shape = bundle.architecture.input_shape
    layers = layer_outputs(bundle.model, shape).values()
    return 4 * (math.prod(shape) + sum(neurons * places for neurons, places in layers))


def run_in_batches(name: str, run: Runner, inputs: NDArray[Any], size: int) -> Outputs:
    """Run a format on any number of samples.

    Args:
        name: Of the format, for the message.
        run: The format.
        inputs: Raw inputs.
        size: Samples at once.

    Raises:
        BundleError: It fails, or gives other shapes than (N, classes).
    """
    batches = [inputs[start : start + size] for start in range(0, len(inputs), size)]
    try:
        parts = [run(batch) for batch in batches]
        outputs = {key: np.concatenate([part[key] for part in parts]) for key in ("logits", "probabilities")}
    except Exception as error:  # torch and onnxruntime raise many kinds
        raise BundleError(f"{name}: cannot be run ({type(error).__name__}: {first_line(error)}).") from None
    if any(array.ndim != 2 or len(array) != len(inputs) for array in outputs.values()):
        raise BundleError(f"{name}: must give one row of logits for each sample.")
    return outputs


@dataclass(frozen=True)
class Difference:
    """How far two formats are apart.

    Attributes:
        logits: Largest difference of two logits, over max(1, largest |logit| of the sample).
        each: The same over max(1, |logit|) of each logit alone; not judged by.
        probabilities: Largest difference of two probabilities.
        ties: Samples whose two best classes were too near to compare which one wins.
    """

    logits: float
    each: float
    probabilities: float
    ties: int


def compare(names: tuple[str, str], one: Outputs, other: Outputs) -> Difference:
    """Compare what two formats make of the same inputs.

    Args:
        names: Of the two, for the message.
        one: Logits and probabilities of the first.
        other: Likewise.

    Returns:
        Their difference.

    Raises:
        BundleMismatchError: They differ by more than rounding; the message names the first sample.
    """
    first, second = one["logits"].astype(np.float64), other["logits"].astype(np.float64)
    if first.shape != second.shape:
        raise BundleMismatchError(
            f"{names[0]} and {names[1]} give logits of shapes {first.shape} and {second.shape}."
        )
    apart = np.abs(first - second)
    relative = apart / np.maximum(1, np.abs(first).max(axis=1, keepdims=True))
    chances = np.abs(one["probabilities"].astype(np.float64) - other["probabilities"])
    for what, scaled in (("logits", relative), ("probabilities", chances)):
        wrong = np.argwhere(~(scaled <= TOLERANCE))  # a NaN is wrong too
        if len(wrong):
            row, column = wrong[0]
            raise BundleMismatchError(
                f"{names[0]} and {names[1]} differ: {what} of sample {row}, class {column}: "
                f"{one[what][row, column]} and {other[what][row, column]}."
            )
    best = np.sort(first, axis=1)
    clear = best[:, -1] - best[:, -2] > TIE if first.shape[1] > 1 else np.ones(len(first), bool)
    wrong = np.argwhere(clear & (first.argmax(1) != second.argmax(1)))
    if len(wrong):
        row = int(wrong[0, 0])
        raise BundleMismatchError(
            f"{names[0]} and {names[1]} differ: sample {row} is class {first[row].argmax()} for one and "
            f"{second[row].argmax()} for the other."
        )
    each = float((apart / np.maximum(1, np.abs(first))).max())
    return Difference(float(relative.max()), each, float(chances.max()), int((~clear).sum()))
