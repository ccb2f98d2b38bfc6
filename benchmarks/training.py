"""A training step by both engines, against a plain training loop in torch.

    python -m benchmarks.training [--rounds 15] [--data-dir DIR]

One thread, batches of 200 images of MNIST's shape, float32, SGD with Nesterov's momentum. The images are
MNIST's where ``--data-dir`` or ``AIQ_DATA_DIR`` holds them in torchvision's layout, random ones elsewhere.

In every round each way trains for some steps, in turn, so that a busy machine slows all of them alike.
Printed are medians over the rounds, of times and of ratios:

* plain: the loop of PyTorch's tutorials, with a fused optimizer; the network as ``models`` builds it;
* torch: ``training.engine: torch``;
* auto: ``training.engine: auto``, and which engine that is;
* floor: how much faster than plain a step would be at the core's peak;
* of peak: what share of that peak ``auto`` reaches. The peak is measured in the same rounds: fused
  multiply-adds of registers. Counted are two operations for each weight and position, as the network's
  definition has them, for the output, the gradient of the weights and, except for the first layer, that of
  the input; also those that a gradient skips because they are zero.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

from aiq_search.datasets import Normalization, Split
from aiq_search.models import Architecture, model_size
from aiq_search.models.size import layer_outputs
from aiq_search.training import TensorSplit, TrainingOptions
from aiq_search.training.engines import make_engine
from aiq_search.training.engines.compiled.arithmetic import block, outer
from aiq_search.training.engines.compiled.compiling import kernel
from aiq_search.training.engines.compiled.memory import loads, store_sums
from aiq_search.training.engines.compiled.vectors import LANES
from benchmarks.statespace import images

BATCH_SIZE = 200
BURST = 0.15  # seconds that one way trains for in a round
LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Goal:
    """A network, and what is wanted of it.

    Attributes:
        model: Its name.
        widths: Its arguments.
        speed: Times as fast as plain torch.
        share: Of the core's peak.
    """

    model: str
    widths: dict[str, int]
    speed: float = 1.0
    share: float | None = None

    @property
    def name(self) -> str:
        """What it is called in the table."""
        title = {"lenet_5": "LeNet-5", "lenet_300_100": "LeNet-300-100"}[self.model]
        return f"{title}, {'-'.join(map(str, self.widths.values()))}"


def _lenet_5(conv1: int, conv2: int, fc: int, speed: float = 1.0, share: float | None = None) -> Goal:
    return Goal("lenet_5", {"conv1": conv1, "conv2": conv2, "fc": fc}, speed, share)


def _lenet_300_100(hidden1: int, hidden2: int, speed: float = 1.0) -> Goal:
    return Goal("lenet_300_100", {"hidden1": hidden1, "hidden2": hidden2}, speed)


GOALS = (
    _lenet_5(2, 2, 8, 8),
    _lenet_5(2, 4, 8, 8, 0.35),
    _lenet_5(4, 4, 8, 8),
    _lenet_5(8, 8, 16, 4, 0.45),
    _lenet_5(32, 32, 64, 2, 0.6),
    _lenet_5(128, 16, 4, 2),
    _lenet_5(20, 50, 500),
    _lenet_5(128, 128, 128),
    _lenet_300_100(16, 8, 2),
    _lenet_300_100(300, 100),
    _lenet_300_100(512, 256),
)


@dataclass
class Way:
    """A way to train: takes so many steps, and how long a step took in each round, in seconds."""

    steps: Callable[[int], object]
    seconds: list[float] = field(default_factory=list)

    def burst(self, count: int) -> None:
        """Time some steps."""
        start = time.perf_counter()
        self.steps(count)
        self.seconds.append((time.perf_counter() - start) / count)

    @property
    def milliseconds(self) -> float:
        """The median."""
        return 1e3 * statistics.median(self.seconds)

    def over(self, other: Way) -> float:
        """How much longer than another way it takes: the median over the rounds."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


class Figures(NamedTuple):
    """The ways to train a network, and the core's peak."""

    plain: Way
    torch: Way
    auto: Way
    peak: Way


def plain(goal: Goal, split: TensorSplit) -> Way:
    """The loop of PyTorch's tutorials."""
    model = network(goal)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )

    def steps(count: int) -> None:
        model.train()
        for indices in batches(split, count):
            inputs, labels = split.batch(indices)
            loss = functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return Way(steps)


def by_engine(goal: Goal, split: TensorSplit, name: str) -> tuple[Way, str]:
    """One of ours, and its name."""
    options = TrainingOptions.model_validate({"engine": name, "batch_size": BATCH_SIZE})
    engine = make_engine(network(goal), options, split, torch.device("cpu"))
    return Way(lambda count: engine.train(split, batches(split, count), [LEARNING_RATE] * count)), engine.name


def network(goal: Goal) -> nn.Module:
    """The network, the same weights each time."""
    torch.manual_seed(0)
    return Architecture(goal.model, goal.widths, (1, 28, 28), 10).build()


def batches(split: TensorSplit, count: int) -> list[torch.Tensor]:
    """Indices of so many random batches."""
    return [torch.randint(len(split), (BATCH_SIZE,)) for _ in range(count)]


def operations(goal: Goal) -> float:
    """Multiplications and additions of a step."""
    model, shape = network(goal), (1, 28, 28)
    macs = model_size(model, shape).macs
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    places = next(iter(layer_outputs(model, shape).values()))[1]
    return 2.0 * BATCH_SIZE * (3 * macs - first.weight.numel() * places)


@kernel()
def multiply_add(numbers, count):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """16 fused multiply-adds of vectors, so often."""
    left, right = loads(numbers, 0, LANES, block(4)), loads(numbers, 4 * LANES, LANES, block(4))
    totals = block(16)
    for _ in range(count):
        totals = outer(totals, left, right)
    store_sums(numbers, totals)


def peak() -> Way:
    """The core's peak: a step is one multiplication and one addition in each lane of a vector."""
    numbers = np.ones(16 * LANES, np.float32)
    return Way(lambda count: multiply_add(numbers, count // 16))


def measure(goal: Goal, split: TensorSplit, rounds: int) -> tuple[Figures, str]:
    """Train in all ways in turn."""
    ours, engine = by_engine(goal, split, "auto")
    torchs, _ = by_engine(goal, split, "torch")
    ways = Figures(plain(goal, split), torchs, ours, peak())
    counts = []
    for way in ways:
        way.burst(1)  # imports, kernels and memory
        way.burst(2 if way is not ways.peak else 1 << 22)
        counts.append(max(1, round(BURST / way.seconds[-1])))
        way.seconds.clear()
    for _ in range(rounds):
        for way, count in zip(ways, counts, strict=True):
            way.burst(count)
    return ways, engine


def row(goal: Goal, ways: Figures, engine: str) -> tuple[list[str], bool]:
    """A line of the table, and whether the goals are met."""
    speed = ways.plain.over(ways.auto)
    seconds_at_peak = operations(goal) / (2 * LANES)
    floor = statistics.median(
        plain / (seconds_at_peak * peak)
        for plain, peak in zip(ways.plain.seconds, ways.peak.seconds, strict=True)
    )
    share = speed / floor
    met = speed >= goal.speed and share >= (goal.share or 0)
    cells = [
        goal.name,
        f"{ways.plain.milliseconds:.2f}",
        f"{ways.torch.milliseconds:.2f} ({ways.plain.over(ways.torch):.2f}x)",
        f"{ways.auto.milliseconds:.2f} ({engine})",
        f"{speed:.2f}x",
        f"{goal.speed:g}x",
        f"{floor:.1f}x",
        f"{share:.0%}",
        "" if goal.share is None else f"{goal.share:.0%}",
        "yes" if met else "no",
    ]
    return cells, met


def main() -> int:
    """Print the table; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("AIQ_DATA_DIR"))
    parser.add_argument("--networks", nargs="+", choices=[goal.name for goal in GOALS], metavar="NETWORK")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pictures, source = images(None if arguments.data_dir is None else Path(arguments.data_dir), train=True)
    split = labelled(pictures)
    table = Table(title=f"A step of {BATCH_SIZE} images of {source}, ms; one thread")
    for head in (
        "network",
        "plain",
        "torch",
        "auto",
        "auto is faster",
        "goal",
        "floor",
        "of peak",
        "goal",
        "met",
    ):
        table.add_column(head, justify="left" if head == "network" else "right")
    missed, speeds = 0, []
    for goal in GOALS:
        if arguments.networks is None or goal.name in arguments.networks:
            ways, engine = measure(goal, split, arguments.rounds)
            cells, met = row(goal, ways, engine)
            table.add_row(*cells)
            missed += not met
            speeds.append(2e-9 * LANES / statistics.median(ways.peak.seconds))
    console = Console(width=140)
    console.print(table)
    console.print(f"The core's peak: {statistics.median(speeds):.0f} GFLOP/s.")
    return 1 if missed else 0


def labelled(pictures: torch.Tensor) -> TensorSplit:
    """The images, with random labels: no time depends on them."""
    labels = np.random.default_rng(0).integers(0, 10, len(pictures))
    raw = pictures.numpy()
    return TensorSplit.of(Split(raw, labels), Normalization.standardise(raw[:1000]), torch.device("cpu"))


if __name__ == "__main__":
    sys.exit(main())
