"""The extra ``onnx``: whether it is installed, and networks run by onnxruntime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.errors import InputError

__all__ = ["OPSET", "onnx_available", "onnx_runner", "require_onnx"]

OPSET = 20
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def onnx_available() -> bool:
    """Whether the extra ``onnx`` is installed; nothing is imported."""
    return all(importlib.util.find_spec(package) is not None for package in _PACKAGES)


def require_onnx() -> None:
    """Raise InputError unless the extra ``onnx`` is installed."""
    if not onnx_available():
        raise InputError("ONNX needs three more packages: pip install onnx onnxruntime onnxscript.")


def onnx_runner(content: bytes) -> Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]]:
    """Load an ONNX of a network into onnxruntime, on one thread.

    Args:
        content: Its bytes, of this package or checked: input ``inputs``, outputs ``logits`` and
            ``probabilities``.

    Returns:
        A function from raw inputs to logits and probabilities.

    Raises:
        Exception: onnxruntime cannot load it; its exceptions are made in C++, without a common base.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = ("logits", "probabilities")

    def run(inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(list(names), {"inputs": inputs}), strict=True))

    return run
