"""How well a network's rank within its first epoch predicts its rank after several, and what asking costs.

AIQ_DATA_DIR=DIR python -m benchmarks.early_ranking [--networks 20] [--epochs 4]

Networks are drawn from the shipped search spaces, widths, learning rate and all; those of more than
``--macs`` are drawn again, because one of them would take longer than all others, and some wide corners are
added. Each is measured at some shares of its first epoch, on as many samples as at the rungs of a search.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from aiq_search.datasets import Dataset, load_dataset
from aiq_search.models import Architecture, model_size
from aiq_search.space import SearchSpace, load_space
from aiq_search.space.points import drawn
from aiq_search.training import DivergedError, TrainingRun
from aiq_search.worker.messages import RUNG_SAMPLES

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
CUTS = (1 / 4, 1 / 3, 1 / 2)  # the share of networks that a rung might stop

_SPACES = Path(__file__).parents[1] / "search_spaces"
_CORNERS: Mapping[str, list[dict[str, int]]] = {
    "lenet_5": [
        {"model.conv1": 128, "model.conv2": 2, "model.fc": 4},
        {"model.conv1": 2, "model.conv2": 128, "model.fc": 256},
        {"model.conv1": 32, "model.conv2": 32, "model.fc": 64},
    ],
    "lenet_300_100": [
        {"model.hidden1": 512, "model.hidden2": 256},
        {"model.hidden1": 512, "model.hidden2": 2},
        {"model.hidden1": 2, "model.hidden2": 256},
    ],
}


@dataclass(frozen=True)
class Trained:
    """A network's aIQ at each of ``SHARES``, after one epoch and at its chosen epoch; with the seconds."""

    early: list[float]
    final: float
    training_seconds: float
    rung_seconds: float


def main() -> None:
    """Train the networks of each space and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.early_ranking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", type=int, default=20, help="drawn from each space")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--macs", type=int, default=600_000, help="largest network drawn")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in _CORNERS:
        space = load_space(
            _SPACES / f"{name}.yaml",
            [f"training.epochs={arguments.epochs}", "training.patience=null", "training.engine=auto"],
        )
        dataset = load_dataset(space.dataset)
        points = [
            *islice(_drawn(space, dataset, arguments.macs, arguments.seed), arguments.networks),
            *({**next(drawn(space, seed)), **corner} for seed, corner in enumerate(_CORNERS[name])),
        ]
        begun = time.monotonic()
        trained = [_train(space, dataset, point, seed) for seed, point in enumerate(points)]
        print(f"\n### {name}: {len(points)} networks, {time.monotonic() - begun:.0f} s\n", flush=True)
        print(_table(trained), flush=True)


def _drawn(space: SearchSpace, dataset: Dataset, macs: int, seed: int) -> Iterator[dict[str, Any]]:
    for point in drawn(space, seed):
        if model_size(_network(space, dataset, point).build(), dataset.input_shape).macs <= macs:
            yield point


def _network(space: SearchSpace, dataset: Dataset, point: Mapping[str, Any]) -> Architecture:
    return Architecture(
        space.model.name, space.model_arguments(point), dataset.input_shape, len(dataset.classes)
    )


def _train(space: SearchSpace, dataset: Dataset, point: Mapping[str, Any], seed: int) -> Trained:
    run = TrainingRun(_network(space, dataset, point), dataset, space.training_options(point), seed=seed)
    early: list[float] = []
    rungs = 0.0
    begun = time.perf_counter()
    try:
        for share in SHARES:
            run.run_part(share, RUNG_SAMPLES)  # trains, and measures once
            again = time.perf_counter()
            early.append(run.run_part(share, RUNG_SAMPLES).validation.aiq)  # only measures
            rungs += 2 * (time.perf_counter() - again)
        early.append(run.run_epoch().validation.aiq)
        first_epoch = time.perf_counter() - begun - rungs
        while not run.finished:
            run.run_epoch()
    except DivergedError:
        return Trained([*early, *[0.0] * (len(SHARES) + 1 - len(early))], 0.0, 0.0, 0.0)
    final = 0.0 if run.best is None else run.best.validation.aiq
    return Trained(early, final, first_epoch, rungs / 2)


def _table(trained: list[Trained]) -> str:
    final = np.array([network.final for network in trained])
    best = set(np.argsort(-final)[: round(len(trained) / 5)].tolist())
    lines = [
        "| learnt from | Spearman with the end | "
        + " | ".join(f"best fifth in the lowest {cut:.0%}" for cut in CUTS)
        + " |",
        "|---|---:|" + "---:|" * len(CUTS),
    ]
    for index, share in enumerate((*SHARES, 1.0)):
        early = np.array([network.early[index] for network in trained])
        order = np.argsort(early).tolist()
        lost = [len(best & set(order[: int(cut * len(trained))])) for cut in CUTS]
        cells = " | ".join(f"{number} of {len(best)}" for number in lost)
        lines.append(f"| {share:g} epoch | {spearmanr(early, final).statistic:.2f} | {cells} |")
    whole = sum(network.training_seconds for network in trained)
    rungs = sum(network.rung_seconds for network in trained) / len(SHARES)
    return "\n".join(lines) + f"\n\nMeasuring at a rung takes {rungs / whole:.1%} of an epoch.\n"


if __name__ == "__main__":
    main()
