"""Trained networks measured again: at other layers, in training mode, on fewer observations.

A study with ``search.weights: all`` has the weights of every network, so that nothing is trained again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from aiq_search.app.prepare import load_data
from aiq_search.statespace import StateCapture, network_efficiency
from aiq_search.study import Study, TrialState
from aiq_search.study.record import TrialRecord
from aiq_search.training import TensorSplit, load_weights
from aiq_search.user_code import NO_CODE
from benchmarks.paper.rows import with_origin

__all__ = ["MODULE", "POINTS", "measured"]

# Where states are read: at the output of a hidden layer itself, as the paper does; after the activation that
# follows (and the batch norm before that); after what follows that in turn, dropout or pooling.
MODULE = "layer"
POINTS = {
    MODULE: ("",),
    "activation": ("_elu",),
    "dropout": ("_dropout", "_elu"),
    "pooling": ("_pool", "_elu"),
}
_OF_A_LAYER = ("_elu", "_dropout", "_pool")
_BATCH = 500


def measured(
    studies: Mapping[str, Study],
    data_dir: Path | None,
    *,
    points: Sequence[str],
    observations: Sequence[int],
    training: bool,
    seeds: int | None = None,
) -> pd.DataFrame:
    """The efficiency of every network that a study keeps, measured in several ways.

    Args:
        studies: By the name of their piece.
        data_dir: Folder of the data files.
        points: Of ``POINTS``: where the states are read.
        observations: Besides the whole validation split, so many of its first samples, at the layer alone.
        training: Whether to measure in training mode, too: dropout drops, and batch norm takes the batch's
            own mean and variance.
        seeds: Only so many first seeds of each cell; by default all.

    Returns:
        A row for each network and way: piece, trial, seed, widths, mode, point, observations, efficiency.
    """
    frames = []
    for name, study in studies.items():
        data = load_data(study.space, data_dir, NO_CODE, None)
        split = TensorSplit.of(data.validation, data.normalization, torch.device("cpu"))
        first: dict[str, int] = {}
        for record in study.records():
            trial = first.setdefault(record.config_hash, record.key.number)
            if record.state is not TrialState.COMPLETE or not study.weights_path(record.key).exists():
                continue
            if seeds is not None and (record.replicate or 0) >= seeds:
                continue
            model = _network(study, record)
            ways = list(_ways(model, split, points, observations, training))
            frame = pd.DataFrame(ways).assign(
                trial=trial,
                replicate=record.replicate,
                seed=record.seed,
                recorded=record.metrics["efficiency"],
            )
            frame = frame.assign(accuracy=record.metrics["accuracy"], **record.params)
            frames.append(with_origin(frame, name, study))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _network(study: Study, record: TrialRecord) -> nn.Module:
    """The network of a training, at its chosen epoch."""
    model = study.architecture(record.params).build()
    weights, _ = load_weights(study.weights_path(record.key))
    model.load_state_dict(weights)
    return model.eval()


def _ways(
    model: nn.Module, split: TensorSplit, points: Sequence[str], observations: Sequence[int], training: bool
) -> Iterator[dict[str, object]]:
    """Efficiencies of a network, a row for each way to measure it."""
    every = len(split)
    for mode in ("evaluation", "training") if training else ("evaluation",):
        layers = _efficiencies(model, split, every, mode == "training")
        for point in points:
            yield {"mode": mode, "point": point, "observations": every, "efficiency": _at(point, layers)}
    for number in observations:
        layers = _efficiencies(model, split, number, training=False)
        yield {
            "mode": "evaluation",
            "point": MODULE,
            "observations": number,
            "efficiency": _at(MODULE, layers),
        }


def _at(point: str, layers: Mapping[str, float]) -> float:
    """The network's efficiency at one point, of those of all its modules."""
    hidden = [name for name in layers if f"{name}_elu" in layers]
    return network_efficiency(
        [next(layers[name + end] for end in POINTS[point] if name + end in layers) for name in hidden]
    )


@torch.inference_mode()
def _efficiencies(model: nn.Module, split: TensorSplit, number: int, training: bool) -> dict[str, float]:
    """The efficiency at each hidden layer and at what follows it, on the first samples of a split."""
    hidden = [name for name, _ in model.named_children() if f"{name}_elu" in dict(model.named_children())]
    there = [n for name in hidden for n in (name, *(name + end for end in _OF_A_LAYER)) if hasattr(model, n)]
    if training:
        model = copy.deepcopy(model).train()  # batch norm takes note of what it sees
    torch.manual_seed(0)  # what dropout drops
    with StateCapture(model, layers=there, axis=dict.fromkeys(there, 1)) as captured:
        for raw in torch.split(split.inputs[:number], _BATCH):
            model(split.normalised(raw))
    return {name: layer.efficiency for name, layer in captured.compute().items()}
