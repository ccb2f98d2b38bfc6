"""What a bundle is made from, as plain values: no study, no tracking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue
from torch import Tensor

from aiq_search.datasets import Dataset, DatasetOptions
from aiq_search.export.documents import ReferenceDocument, SeedMetrics, SpreadDocument
from aiq_search.models import Architecture
from aiq_search.training.capture import CaptureOptions
from aiq_search.training.measures import Measures

__all__ = ["FORMATS", "MAX_DROP", "BundleContents"]

FORMATS: tuple[str, ...] = ("safetensors", "pt2", "onnx", "c", "int8")
# Accuracy on the test split that a network may lose in eight bits.
MAX_DROP = 0.01


@dataclass(frozen=True)
class BundleContents:
    """A network to export, and what is known about it.

    Attributes:
        architecture: The network.
        weights: Its state dict.
        dataset: What it was trained and measured on.
        dataset_options: How ``dataset`` was loaded.
        beta: Weight of accuracy in aIQ.
        capture: Which states are measured.
        measures: What is measured beside accuracy, and which number is the accuracy in aIQ.
        expected: The search's own numbers for this network by split and name (any of loss, accuracy,
            efficiency, aiq), which the reloaded network must give again.
        tolerance: How far each of these numbers may be off.
        measured: How the search measured them, where that rounds differently from torch on the CPU:
            "on a GPU", "by the compiled engine".
        configuration: Mean and deviation over the configuration's seeds, by split and metric.
        seeds: What the search measured for each seed.
        reference: The most accurate network of the search, to compare it with.
        source: Where the network comes from: study, trial, parameters, versions.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    dataset: Dataset
    dataset_options: DatasetOptions
    beta: float = 2.0
    capture: CaptureOptions = field(default_factory=CaptureOptions)
    measures: Measures = field(default_factory=Measures)
    expected: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tolerance: float = 1e-4
    measured: str | None = None
    configuration: Mapping[str, Mapping[str, SpreadDocument]] = field(default_factory=dict)
    seeds: Sequence[SeedMetrics] = ()
    reference: ReferenceDocument | None = None
    source: Mapping[str, JsonValue] = field(default_factory=dict)
