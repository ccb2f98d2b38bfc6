"""The exported network's own numbers, and the machine that they were measured on."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

import aiq_search
from aiq_search.datasets import Normalization, Split
from aiq_search.export.documents import SplitMetrics
from aiq_search.training.capture import CaptureOptions
from aiq_search.training.evaluation import TensorSplit, evaluate
from aiq_search.training.measures import Measures

__all__ = ["environment", "measure_split", "one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, as a trial does: the sums are then added up in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure_split(
    model: nn.Module,
    split: Split,
    normalization: Normalization,
    *,
    beta: float,
    measures: Measures = Measures(),  # noqa: B008 - frozen
    capture: CaptureOptions = CaptureOptions(),  # noqa: B008 - frozen
) -> SplitMetrics:
    """Measure a network on a split.

    Args:
        model: On the CPU; takes normalised inputs.
        split: Raw inputs and labels.
        normalization: What makes network input of them.
        beta: Weight of accuracy in aIQ.
        measures: What is measured beside accuracy, and which number is the accuracy in aIQ.
        capture: Which states are measured.

    Returns:
        Loss, accuracy, efficiencies and aIQ.
    """
    tensors = TensorSplit.of(split, normalization, torch.device("cpu"))
    with one_thread():
        measured = evaluate(model, tensors, beta=beta, capture=capture)
        measured = measures.added_to(measured, model, tensors, beta)
    return SplitMetrics.model_validate(asdict(measured))


def environment() -> dict[str, str]:
    """What decides whether a forward pass gives the same bits: versions, processor, its vector unit."""
    return {
        "aiq_search": aiq_search.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
        "processor": _processor(),
        "vector_unit": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{platform.machine()} {line.partition(':')[2].strip()}"
    return f"{platform.machine()} {platform.processor()}".strip()
