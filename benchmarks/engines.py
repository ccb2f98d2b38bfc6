"""Whether whole trainings agree between the engines: mean accuracy, efficiency and aIQ over seeds.

    python -m benchmarks.engines [--seeds 20] [--data-dir DIR] [--networks "MLP on digits, 16-8"]

Each network is trained by both engines from the same seeds, and measured by torch on the test split. Initial
weights and batches are the same, but rounding grows over thousands of steps, so single trainings differ.
Their means must not: the difference is printed beside the standard error of a mean. The last column shows
how far the compiled engine's own measurement of its networks is from torch's, at most.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from aiq_search.datasets import Dataset, DatasetOptions, load_dataset
from aiq_search.models import Architecture
from aiq_search.training import Evaluation, TensorSplit, TrainingOptions, TrainingRun, evaluate

METRICS = ("accuracy", "efficiency", "aiq")


class Case(NamedTuple):
    """A network, its data and how it is trained."""

    name: str
    dataset: DatasetOptions
    model: str
    widths: dict[str, int]
    training: dict[str, float]


DIGITS = DatasetOptions(name="digits", validation=360, test=360)
MNIST = DatasetOptions(name="mnist", validation=10_000)
CASES = (
    Case(
        "MLP on digits, 16-8",
        DIGITS,
        "mlp",
        {"hidden1": 16, "hidden2": 8},
        {"epochs": 20, "batch_size": 50, "learning_rate": 0.02},
    ),
    Case(
        "LeNet-300-100 on MNIST, 16-8",
        MNIST,
        "lenet_300_100",
        {"hidden1": 16, "hidden2": 8},
        {"epochs": 5, "batch_size": 200, "learning_rate": 0.01},
    ),
    Case(
        "LeNet-5 on MNIST, 2-4-8",
        MNIST,
        "lenet_5",
        {"conv1": 2, "conv2": 4, "fc": 8},
        {"epochs": 3, "batch_size": 200, "learning_rate": 0.01},
    ),
)


class Trained(NamedTuple):
    """What torch measures of a trained network, and how far the engine's own aIQ is from it."""

    test: Evaluation
    off: float


def trained(case: Case, dataset: Dataset, engine: str, seed: int) -> Trained:
    """Train a network, and measure it on the test split."""
    architecture = Architecture(case.model, case.widths, dataset.input_shape, len(dataset.classes))
    options = TrainingOptions.model_validate({**case.training, "engine": engine, "patience": None})
    run = TrainingRun(architecture, dataset, options, seed=seed)
    while not run.finished:
        run.run_epoch()
    if run.engine.name != engine:
        raise RuntimeError(f"{run.engine.name} trained instead of {engine}")
    run.model.load_state_dict(run.best_weights)
    test = TensorSplit.of(dataset.test, dataset.normalization, run.device)
    measured = evaluate(run.model, test, beta=run.beta)
    return Trained(measured, abs(run.engine.evaluate(test, run.beta).aiq - measured.aiq))


def compare(case: Case, dataset: Dataset, seeds: int) -> tuple[list[list[str]], bool]:
    """Lines of the table, one for each metric, and whether all agree."""
    pairs = [
        [trained(case, dataset, engine, seed) for seed in range(seeds)] for engine in ("torch", "compiled")
    ]
    off = max(each.off for each in pairs[1])
    lines, agree = [], True
    for metric in METRICS:
        torchs, ours = ([getattr(each.test, metric) for each in side] for side in pairs)
        error = max(stdev(torchs), stdev(ours)) / seeds**0.5
        difference = fmean(ours) - fmean(torchs)
        agree &= abs(difference) <= error
        lines.append(
            [
                case.name if metric == METRICS[0] else "",
                metric,
                f"{fmean(torchs):.4f}",
                f"{fmean(ours):.4f}",
                f"{difference:+.4f}",
                f"{error:.4f}",
                f"{off:.0e}" if metric == "aiq" else "",
            ]
        )
    return lines, agree


def main() -> int:
    """Print the table; 1 if a difference is larger than the standard error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("AIQ_DATA_DIR"))
    names = [case.name for case in CASES]
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NETWORK")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data_dir = None if arguments.data_dir is None else Path(arguments.data_dir)
    table = Table(title=f"Both engines, test split, mean of {arguments.seeds} seeds")
    heads = ("network", "metric", "torch", "compiled", "difference", "standard error", "measured differently")
    for head in heads:
        table.add_column(head, justify="left" if head in heads[:2] else "right")
    all_agree = True
    for case in CASES:
        if case.name in arguments.networks:
            lines, agree = compare(case, load_dataset(case.dataset, data_dir), arguments.seeds)
            all_agree &= agree
            for line in lines:
                table.add_row(*line)
    Console(width=120).print(table)
    return 0 if all_agree else 1


if __name__ == "__main__":
    sys.exit(main())
