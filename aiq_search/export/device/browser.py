"""A network as JSON, for the few lines of JavaScript that run it in the report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from aiq_search.datasets import Dataset
from aiq_search.errors import InputError
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.lowering.plan import Activation, Convolution, Plan, Pool
from aiq_search.lowering.planning import plan_network

__all__ = ["LARGEST", "SAMPLES", "demonstration", "network_document"]

SAMPLES = 12
# Weights that a page may carry: half a megabyte of text.
LARGEST = 50_000
_LARGEST_SIDE = 64
_LOOKED_AT = 500  # training samples that show how large what is drawn should be
_INK = 0.2  # share of the range of values from which a pixel is drawn on


def demonstration(network: nn.Module, dataset: Dataset) -> dict[str, Any]:
    """A network with samples of the test split, as a page shows it at work.

    Args:
        network: On normalised inputs, in evaluation mode.
        dataset: What it was trained on.

    Returns:
        A JSON document: the network, class names, samples with their labels, and for images how to draw one.

    Raises:
        InputError: The network has no device format, or is too large for a page.
    """
    plan = plan_network(network, PreprocessingDocument.of(dataset))
    if plan.weights > LARGEST or plan.inputs > 3 * _LARGEST_SIDE**2:
        raise InputError(f"a page only runs networks of at most {LARGEST:,} weights.")
    inputs, labels = dataset.test.inputs[:SAMPLES], dataset.test.labels[:SAMPLES]
    return {
        "network": network_document(plan),
        "classes": list(dataset.classes),
        "samples": [
            {"inputs": _plain(each), "label": int(label)} for each, label in zip(inputs, labels, strict=True)
        ],
        "picture": _picture(dataset),
    }


def _plain(numbers: NDArray[Any]) -> list[float]:
    """Numbers as they are, float32 in the fewest digits."""
    flat: list[float] = numbers.ravel().tolist()
    return [float(str(np.float32(each))) for each in flat] if numbers.dtype == np.float32 else flat


def network_document(plan: Plan) -> dict[str, Any]:
    """A network as ``network.js`` of the report runs it."""
    layers: list[dict[str, Any]] = []
    for step in plan.steps:
        parts = (step.layer, *step.before, *([step.pool] if step.pool else []), *step.after)
        layers += [_layer(part) for part in parts]
    return {
        "shape": plan.input_shape,
        "scale": _plain(plan.scale),
        "shift": _plain(plan.shift),
        "layers": layers,
    }


def _layer(part: Convolution | Pool | Activation) -> dict[str, Any]:
    if isinstance(part, Activation):
        return {"kind": "activation", "name": part.function, "alpha": part.alpha}
    shapes = {"input": part.input_shape, "output": part.output_shape, "stride": part.stride}
    if isinstance(part, Pool):
        return {"kind": "pool", "largest": part.kind == "max", "kernel": part.kernel, **shapes}
    return {
        "kind": "convolution",
        "weight": _plain(part.weight),
        "bias": _plain(part.bias),
        "kernel": part.weight.shape[1:],
        "padding": part.padding,
        "dilation": part.dilation,
        "groups": part.groups,
        **shapes,
    }


def _picture(dataset: Dataset) -> dict[str, Any] | None:
    """How a sample is drawn: values of paper and ink, and how much of the picture is filled and inked."""
    shape = dataset.input_shape
    if len(shape) != 3 or shape[0] not in (1, 3) or max(shape[1:]) > _LARGEST_SIDE:
        return None
    images = dataset.train.inputs[:_LOOKED_AT].astype(np.float64)
    low, high = float(dataset.train.inputs.min()), float(dataset.train.inputs.max())
    edges = np.concatenate([images[..., 0, :].ravel(), images[..., -1, :].ravel()])
    dark = float(np.median(edges)) < (low + high) / 2
    paper, ink = (low, high) if dark else (high, low)
    drawn = np.abs(images - paper).max(1) > _INK * (high - low)
    fills = [
        (np.ptp(np.flatnonzero(lines)) + 1) / len(lines)
        for image in drawn
        for lines in (image.any(1), image.any(0))
        if lines.any()
    ]
    pairs = np.array(fills).reshape(-1, 2).max(1) if fills else np.ones(1)
    inked = (np.abs(images - paper) / ((high - low) or 1)).mean((1, 2, 3))
    return {
        "low": low,
        "high": high,
        "paper": paper,
        "ink": ink,
        "fill": float(np.median(pairs)),
        "inked": float(np.median(inked)),
    }
