"""What one sample costs a small machine: bytes of activations, and milliseconds on this CPU."""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import nn

from aiq_search.errors import InputError, first_line
from aiq_search.lowering.float_onnx import float_model, traced_onnx
from aiq_search.lowering.onnx_extra import onnx_runner, require_onnx
from aiq_search.lowering.plan import Plan
from aiq_search.lowering.planning import Preprocessing, plan_network

__all__ = ["CostMeter", "Latency", "activation_bytes", "latency"]

# Time is taken of blocks of calls, each so long, after some calls that do not count. Of a network that takes
# long there are fewer.
_BLOCKS, _FEWEST = 21, 5
_BLOCK_SECONDS = 0.005
_WARM_UP_SECONDS = 0.03
_LONGEST_SECONDS = 1.0

# Networks whose ONNX is kept: their other seeds, and other recipes for them, follow one another.
_KEPT = 8


def activation_bytes(plan: Plan) -> dict[str, int]:
    """Largest bytes of activations at once, by format: of the buffer of the C files.

    The raw input and the logits are the caller's.

    Args:
        plan: The network.
    """
    return {
        "float32": 4 * plan.places()[1],
        "int8": plan.places(of_input=plan.input_dtype == "float32")[1],
    }


@dataclass(frozen=True)
class Latency:
    """How long a network takes for one sample, in milliseconds.

    Attributes:
        median: Over blocks of calls.
        iqr: From the first to the third quartile of the blocks.
    """

    median: float
    iqr: float


def latency(run: Callable[[NDArray[Any]], object], inputs: NDArray[Any]) -> Latency:
    """Take the time of a function on this CPU.

    It is the time of this thread: what other processes do meanwhile counts as far as they slow down the
    processor, not while they have it.

    Args:
        run: Computes in this thread alone.
        inputs: What it is called with: one sample.

    Example:
        >>> taken = latency(sum, range(10_000))
        >>> 0 < taken.median < 1000
        True
    """

    def seconds(calls: int) -> float:
        begun = time.thread_time()
        for _ in range(calls):
            run(inputs)
        return time.thread_time() - begun

    seconds(1)  # the first call also allocates
    calls = 1
    while (taken := seconds(calls)) < _WARM_UP_SECONDS:
        calls *= 2
    calls = max(1, round(calls * _BLOCK_SECONDS / taken))
    blocks: list[float] = []
    while len(blocks) < _FEWEST or (len(blocks) < _BLOCKS and sum(blocks) * calls < _LONGEST_SECONDS):
        blocks.append(seconds(calls) / calls)
    first, median, third = statistics.quantiles(blocks, n=4)
    return Latency(1e3 * median, 1e3 * (third - first))


class CostMeter:
    """Measures what networks cost, and keeps the ONNX of the last ones."""

    def __init__(self) -> None:
        self._runners: OrderedDict[str, Callable[[NDArray[Any]], object]] = OrderedDict()

    def costs(
        self,
        names: Iterable[str],
        architecture: str,
        network: nn.Module,
        preprocessing: Preprocessing,
        inputs: NDArray[Any],
    ) -> dict[str, float]:
        """The costs of a network.

        Args:
            names: Which: activation_bytes, latency_ms; the second brings its spread, latency_ms_iqr.
            architecture: Identifies the network but for its weights.
            network: On normalised inputs.
            preprocessing: Of its raw inputs.
            inputs: One raw sample.

        Raises:
            InputError: The network has none of these costs; or the extra ``onnx`` is not installed.
        """
        found: dict[str, float] = {}
        if "activation_bytes" in names:
            found["activation_bytes"] = activation_bytes(plan_network(network, preprocessing))["float32"]
        if "latency_ms" in names:
            taken = latency(self._runner(architecture, network, preprocessing), inputs)
            found |= {"latency_ms": taken.median, "latency_ms_iqr": taken.iqr}
        return found

    def _runner(
        self, architecture: str, network: nn.Module, preprocessing: Preprocessing
    ) -> Callable[[NDArray[Any]], object]:
        if architecture not in self._runners:
            content = _onnx(network, preprocessing)
            try:
                self._runners[architecture] = onnx_runner(content)
            except Exception as error:  # onnxruntime's exceptions are made in C++, without a common base
                raise InputError(f"onnxruntime cannot load it ({first_line(error)})") from error
            if len(self._runners) > _KEPT:
                self._runners.popitem(last=False)
        self._runners.move_to_end(architecture)
        return self._runners[architecture]


def _onnx(network: nn.Module, preprocessing: Preprocessing) -> bytes:
    require_onnx()
    try:
        return bytes(float_model(plan_network(network, preprocessing)).SerializeToString())
    except InputError:  # it is no plain sequence
        return traced_onnx(network, preprocessing)
