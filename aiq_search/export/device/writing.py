"""The device formats of a bundle that is being written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from aiq_search.datasets import Dataset
from aiq_search.errors import InputError
from aiq_search.export.device.c_float import c_files
from aiq_search.export.device.c_int8 import int8_c_files
from aiq_search.export.device.compiler import compile_ahead
from aiq_search.export.device.demand import (
    builds,
    check_drop,
    latencies,
    measure_int8,
    weight_bytes,
)
from aiq_search.export.documents import DeviceDocument, Int8Document, PreprocessingDocument
from aiq_search.export.onnx_file import load_onnx
from aiq_search.export.running import run_in_batches, standalone_runner
from aiq_search.lowering.costs import activation_bytes
from aiq_search.lowering.onnx_extra import require_onnx
from aiq_search.lowering.plan import Plan
from aiq_search.lowering.planning import plan_network
from aiq_search.lowering.quantization import NAME, Quantised, quantised_onnx
from aiq_search.training.capture import CaptureOptions

__all__ = ["DeviceFiles"]

_BATCH = 100


class DeviceFiles:
    """C and eight bits of one network, and what they ask of a device.

    Args:
        network: On normalised inputs.
        preprocessing: Of its raw inputs.
        dataset: What it was trained and measured on.
        beta: Weight of accuracy in aIQ.
        capture: Which states are measured.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: PreprocessingDocument,
        dataset: Dataset,
        beta: float,
        capture: CaptureOptions = CaptureOptions(),  # noqa: B008 - frozen
    ) -> None:
        self._network = network
        self._preprocessing = preprocessing
        self._dataset = dataset
        self._beta = beta
        self._capture = capture
        self._texts: dict[str, dict[str, bytes]] = {}
        self._measured: Int8Document | None = None

    @cached_property
    def plan(self) -> Plan:
        """The network as a device computes it.

        Raises:
            InputError: It has no device format.
        """
        return plan_network(self._network, self._preprocessing)

    def c(self) -> dict[str, bytes]:
        """The C file and its header, by name.

        Raises:
            InputError: There is none for this network.
        """
        return self._kept("c", c_files(self.plan))

    def int8(self, max_drop: float, *, in_c: bool) -> dict[str, bytes]:
        """The ONNX in eight bits, by name.

        Args:
            max_drop: Accuracy on the test split that it may lose.
            in_c: Whether to write its C file too.

        Raises:
            InputError: The extra ``onnx`` is not installed, the network cannot be quantised, or loses more.
        """
        require_onnx()
        content = quantised_onnx(self.plan, self._dataset.train.inputs)
        quantised = Quantised.of(content, self.plan)
        exact = standalone_runner(self._network, self._preprocessing)
        inputs = self._dataset.test.inputs
        measured = measure_int8(
            self._network,
            self.plan,
            quantised,
            self._dataset,
            exact=run_in_batches("safetensors", exact, inputs, _BATCH)["logits"],
            int8=run_in_batches(NAME, load_onnx(content, NAME), inputs, _BATCH)["logits"],
            beta=self._beta,
            capture=self._capture,
        )
        check_drop(measured, max_drop)
        self._measured = measured
        if in_c:
            self._kept("int8", int8_c_files(self.plan, quantised))
        return {NAME: content, **self._texts.get("int8", {})}

    def int8_of(self, content: bytes) -> None:
        """Take an ONNX in eight bits that was checked, for its C file; see ``int8``.

        Raises:
            InputError: There is none for this network.
        """
        self._kept("int8", int8_c_files(self.plan, Quantised.of(content, self.plan)))

    def _kept(self, name: str, files: dict[str, bytes]) -> dict[str, bytes]:
        """Keep C files, and have the compilers begin with them."""
        self._texts[name] = files
        stem = next(iter(files)).removesuffix(".c")
        compile_ahead(stem, files, np.dtype(self._preprocessing.input_dtype))
        return files

    def document(self, runners: Mapping[str, Callable[[NDArray[Any]], object]]) -> DeviceDocument | None:
        """What the network asks of a device; None if it has no device format.

        Args:
            runners: Formats whose time is taken.
        """
        try:
            plan = self.plan
        except InputError:
            return None
        built = builds(self._texts, self._preprocessing)  # first: no compiler runs while time is taken
        return DeviceDocument(
            weights=weight_bytes(plan),  # type: ignore[arg-type]
            activations=activation_bytes(plan),  # type: ignore[arg-type]
            latency=latencies(runners, self._texts, self._dataset.test.inputs[:1]),
            builds=built,  # type: ignore[arg-type]
            int8=self._measured,
        )
