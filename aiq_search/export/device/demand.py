"""What a network asks of a device: bytes, time, and what eight bits cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from aiq_search.datasets import Dataset
from aiq_search.errors import InputError
from aiq_search.export.device.compiler import (
    CompilerError,
    cross_compiler,
    footprint,
    seconds_a_sample,
    version,
)
from aiq_search.export.documents import BuildDocument, Int8Document, PreprocessingDocument
from aiq_search.export.measurement import measure_split
from aiq_search.lowering.plan import Plan
from aiq_search.lowering.quantization import CALIBRATION, Quantised, dequantised
from aiq_search.training.capture import CaptureOptions

__all__ = ["builds", "check_drop", "latencies", "measure_int8", "weight_bytes"]

_CALLS, _LONGEST = 300, 0.5  # calls, or seconds
_PER_OUTPUT = 8  # bytes of an output's bias and factor beside its weights in eight bits


def weight_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of the weights by format, batch norms folded."""
    layers = plan.convolutions
    int8 = sum(layer.weight.size + _PER_OUTPUT * layer.bias.size for layer in layers)
    return {"float32": 4 * plan.weights, "int8": int8}


def builds(
    texts: Mapping[str, Mapping[str, bytes]], preprocessing: PreprocessingDocument
) -> dict[str, BuildDocument]:
    """Flash and RAM of C files on a Cortex-M4; nothing where there is no cross compiler.

    Args:
        texts: The files by format, c or int8: text of this package.
        preprocessing: Of the raw inputs.
    """
    found: dict[str, BuildDocument] = {}
    with suppress(CompilerError):
        for name, files in texts.items():
            stem = next(iter(files)).removesuffix(".c")
            flash, ram = footprint(stem, files, np.dtype(preprocessing.input_dtype))
            number = "float32" if name == "c" else "int8"
            found[number] = BuildDocument(flash=flash, ram=ram, compiler=version(str(cross_compiler())))
    return found


def latencies(
    runners: Mapping[str, Callable[[NDArray[Any]], object]],
    texts: Mapping[str, Mapping[str, bytes]],
    inputs: NDArray[Any],
) -> dict[str, float]:
    """Microseconds of one sample by itself on this machine, on one thread.

    Args:
        runners: Formats that run in this process, of which the median of many calls is taken.
        texts: C files by format, c or int8, of which it is the mean.
        inputs: Raw samples.
    """
    compiled: dict[str, float] = {}  # first: no compiler runs while the others are measured
    with suppress(CompilerError):
        for name, files in texts.items():
            stem = next(iter(files)).removesuffix(".c")
            compiled["c" if name == "c" else "int8 c"] = 1e6 * seconds_a_sample(stem, files, inputs)
    found = {name: 1e6 * _median_seconds(run, inputs[:1]) for name, run in runners.items()} | compiled
    return {name: round(value, 2) for name, value in found.items()}


def _median_seconds(run: Callable[[NDArray[Any]], object], inputs: NDArray[Any]) -> float:
    durations: list[float] = []
    while len(durations) < _CALLS and sum(durations) < _LONGEST:
        begun = time.perf_counter()
        run(inputs)
        durations.append(time.perf_counter() - begun)
    return statistics.median(durations)


def measure_int8(
    network: nn.Module,
    plan: Plan,
    quantised: Quantised,
    dataset: Dataset,
    *,
    exact: NDArray[np.float32],
    int8: NDArray[np.float32],
    beta: float,
    capture: CaptureOptions,
) -> Int8Document:
    """What eight bits cost on the test split.

    Args:
        network: In float32.
        plan: Its plan.
        quantised: Its quantised form.
        dataset: Its data.
        exact: Logits of the network for the test split, (N, classes).
        int8: Logits of its quantised form.
        beta: Weight of accuracy in aIQ.
        capture: Which states are measured.
    """
    labels, classes, rounded = dataset.test.labels, exact.argmax(1), int8.argmax(1)
    accuracy = float((rounded == labels).mean())
    weights = dequantised(network, plan, quantised)
    measured = measure_split(weights, dataset.test, dataset.normalization, beta=beta, capture=capture)
    return Int8Document(
        accuracy=accuracy,
        drop=float((classes == labels).mean()) - accuracy,
        agreement=float((classes == rounded).mean()),
        aiq=measured.aiq,
        efficiency=measured.efficiency,
        calibrated=min(CALIBRATION, len(dataset.train)),
    )


def check_drop(measured: Int8Document, largest: float) -> None:
    """Raise InputError where eight bits cost more accuracy than is allowed."""
    if measured.drop > largest:
        raise InputError(
            f"in eight bits accuracy on the test split falls by {measured.drop:.4f} to "
            f"{measured.accuracy:.4f}, more than --max-drop {largest:g} allows."
        )
