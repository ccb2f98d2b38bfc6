"""Trials a minute against the stock recipe, and against a bare training loop.

    python -m benchmarks.stock [--data-dir DIR] [--trials 40] [--rounds 3] [--peer-workers 0 2]

One fixed list of random configurations of LeNet-300-100 on MNIST (widths 2 to 512 and 2 to 256, log-uniform),
two epochs each, no pruning, one torch thread a trial, on two cores. Three ways to train it, each in a process
of its own:

* ours: ``run_search`` with the list as ``enqueue``, Ray on this machine, MLflow on SQLite;
* stock: what the documentation of PyTorch, Ray, Optuna and MLflow leads to: a function trainable, a
  DataLoader over torchvision's MNIST, OptunaSearch, MLflowLoggerCallback. It measures aIQ with our engine, as
  often as ours does;
* bare: two processes that do nothing but train the list with our ``TrainingRun``. This is the floor.

The clock of each runs from the first trial's start, before its worker process exists, to the last trial's
end; "with start and end" it runs from the process's start to its end. Ours and bare take turns; stock, which
takes long, runs once, with that number of DataLoader workers that is the faster on the first four
configurations.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

EPOCHS = 2
BATCH_SIZE = 200
VALIDATION = 10_000
CORES = 2
CALIBRATION = 4  # configurations by which the stock recipe's number of DataLoader workers is chosen

Point = dict[str, int]


def configurations(count: int) -> list[Point]:
    """The list: widths drawn log-uniformly, each pair once."""
    draw = random.Random(0)  # noqa: S311
    points: list[Point] = []
    while len(points) < count:
        point = {
            name: round(math.exp(draw.uniform(math.log(2), math.log(high))))
            for name, high in (("hidden1", 512), ("hidden2", 256))
        }
        if point not in points:
            points.append(point)
    return points


def space_of(points: list[Point]) -> dict[str, Any]:
    """The list as a search space of ours."""
    return {
        "schema_version": 1,
        "name": "stock",
        "model": {"name": "lenet_300_100"},
        "dataset": {"name": "mnist", "validation": VALIDATION},
        "parameters": {
            "model.hidden1": {"type": "int", "low": 2, "high": 512, "log": True},
            "model.hidden2": {"type": "int", "low": 2, "high": 256, "log": True},
        },
        "enqueue": [{f"model.{name}": width for name, width in point.items()} for point in points],
        "search": {"trials": len(points), "sampler": "random", "pruner": "none"},
        "training": {"epochs": EPOCHS, "batch_size": BATCH_SIZE},
        "confirm": {"finalists": 0},
    }


def ours(points: list[Point], folder: Path, data_dir: Path) -> float:
    """Seconds that the list takes with ``run_search``."""
    from aiq_search import run_search
    from aiq_search.study import TrialEnded, TrialStarted

    times: list[float] = []

    class Clock:
        def on_event(self, event: object) -> None:
            if isinstance(event, TrialStarted | TrialEnded):
                times.append(time.perf_counter())

    result = run_search(
        space_of(points),
        home=folder / "home",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        data_dir=data_dir,
        listeners=[Clock()],
    )
    done = [
        (r.params["model.hidden1"], r.params["model.hidden2"]) for r in result.records if r.value is not None
    ]
    if sorted(done) != sorted((p["hidden1"], p["hidden2"]) for p in points):
        raise RuntimeError(f"expected {len(points)} trained configurations, but got {len(done)}")
    return times[-1] - times[0]


def stock(points: list[Point], folder: Path, data_dir: Path, workers: int) -> float:
    """Seconds that the list takes with the stock recipe."""
    from aiq_search.cluster import ensure_token

    ensure_token(folder)  # Ray would put a token into the user's home
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    times: list[float] = []

    class Clock(tune.Callback):  # type: ignore[misc]
        def on_trial_start(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
            times.append(time.perf_counter())

        on_trial_complete = on_trial_start

    ray.init(num_cpus=CORES, include_dashboard=False)
    results = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(stock_trial, data_dir=data_dir, workers=workers), {"cpu": 1}
        ),
        param_space={"hidden1": tune.lograndint(2, 513), "hidden2": tune.lograndint(2, 257)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(points_to_evaluate=points),
            metric="aiq",
            mode="max",
            num_samples=len(points),
            max_concurrent_trials=CORES,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            callbacks=[
                MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="stock"),
                Clock(),
            ],
        ),
    ).fit()
    done = sorted((r.config["hidden1"], r.config["hidden2"]) for r in results if r.error is None)
    if done != sorted((p["hidden1"], p["hidden2"]) for p in points):
        raise RuntimeError(f"expected {len(points)} trained configurations, but got {len(done)}")
    return times[-1] - times[0]


def stock_trial(config: dict[str, int], data_dir: Path, workers: int) -> None:
    """One trial, as the tutorials write it."""
    import torch
    from ray import tune
    from torch import nn
    from torch.utils.data import DataLoader, random_split
    from torchvision import datasets, transforms

    from aiq_search.statespace import StateCapture, aiq, network_efficiency

    torch.set_num_threads(1)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    mnist = datasets.MNIST(data_dir, train=True, transform=transform)
    training, validation = random_split(mnist, [len(mnist) - VALIDATION, VALIDATION])
    train_loader = DataLoader(training, batch_size=BATCH_SIZE, shuffle=True, num_workers=workers)
    validation_loader = DataLoader(validation, batch_size=500, num_workers=workers)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, config["hidden1"]),
        nn.ELU(),
        nn.Linear(config["hidden1"], config["hidden2"]),
        nn.ELU(),
        nn.Linear(config["hidden2"], 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.001, momentum=0.9, nesterov=True, weight_decay=0.0005
    )
    for _ in range(EPOCHS):
        model.train()
        for inputs, labels in train_loader:
            optimizer.zero_grad()
            criterion(model(inputs), labels).backward()
            optimizer.step()
        model.eval()
        correct, loss = 0, 0.0
        with torch.no_grad(), StateCapture(model) as capture:
            for inputs, labels in validation_loader:
                logits = model(inputs)
                loss += criterion(logits, labels).item() * len(labels)
                correct += (logits.argmax(1) == labels).sum().item()
            layers = capture.compute()
        accuracy = correct / VALIDATION
        efficiency = network_efficiency([layer.efficiency for layer in layers.values()])
        tune.report(
            {
                "loss": loss / VALIDATION,
                "accuracy": accuracy,
                "efficiency": efficiency,
                "aiq": aiq(accuracy, efficiency, 2.0),
            }
        )


_data: Any = None  # the data set of a process of the bare loop


def bare(points: list[Point], data_dir: Path) -> float:
    """Seconds that the list takes in two processes that only train."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from aiq_search.datasets import DatasetOptions, load_dataset

    dataset = load_dataset(DatasetOptions(name="mnist", validation=VALIDATION), data_dir)
    begun = time.perf_counter()
    with ProcessPoolExecutor(CORES, get_context("spawn"), take_data, (dataset,)) as pool:
        if len(list(pool.map(bare_trial, points))) != len(points):
            raise RuntimeError("a trial is missing")
        return time.perf_counter() - begun


def take_data(dataset: Any) -> None:  # noqa: ANN401
    """Get a process of the bare loop ready."""
    global _data
    import torch

    torch.set_num_threads(1)
    _data = dataset


def bare_trial(point: Point) -> float:
    """Train one configuration; its aIQ."""
    from aiq_search.models import Architecture
    from aiq_search.training import TrainingOptions, TrainingRun

    architecture = Architecture("lenet_300_100", point, _data.input_shape, len(_data.classes))
    options = TrainingOptions(epochs=EPOCHS, batch_size=BATCH_SIZE)
    run = TrainingRun(architecture, _data, options, seed=0)
    while not run.finished:
        run.run_epoch()
    return 0.0 if run.best is None else run.best.validation.aiq


class Rates(NamedTuple):
    """Trials a minute.

    Attributes:
        trials: From the first trial's start to the last one's end.
        whole: From the process's start to its end.
    """

    trials: float
    whole: float


def measured(what: str, trials: int, data_dir: Path, workers: int = 0) -> Rates:
    """Trials a minute of one way, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="aiq-") as folder:
        command = [sys.executable, "-m", "benchmarks.stock", "--only", what, "--trials", str(trials)]
        command += ["--peer-workers", str(workers), "--data-dir", str(data_dir)]
        begun = time.perf_counter()
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": folder}
        )
        whole = time.perf_counter() - begun
    return Rates(trials / json.loads(done.stdout.splitlines()[-1]) * 60, trials / whole * 60)


def faster(numbers: list[int], trials: int, data_dir: Path) -> int:
    """The number of DataLoader workers that serves the stock recipe best."""
    if len(numbers) == 1:
        return numbers[0]
    few = min(trials, CALIBRATION)
    rates = {number: measured("stock", few, data_dir, number).trials for number in numbers}
    for number, rate in rates.items():
        print(f"stock, {number} DataLoader workers: {rate:.1f} trials a minute, few trials", file=sys.stderr)
    return max(rates, key=lambda number: rates[number])


def compare(trials: int, rounds: int, numbers: list[int], data_dir: Path) -> Table:
    """Run all three and set them side by side."""
    rates: dict[str, list[Rates]] = {"ours": [], "bare": []}
    for number in range(rounds):
        for what in ("ours", "bare") if number % 2 == 0 else ("bare", "ours"):
            rates[what].append(measured(what, trials, data_dir))
            print(f"{what}: {rates[what][-1].trials:.1f} trials a minute", file=sys.stderr)
    own, whole = (statistics.median(column) for column in zip(*rates["ours"], strict=True))
    bare_rates = [each.trials for each in rates["bare"]]
    share = statistics.median(a.trials / b for a, b in zip(rates["ours"], bare_rates, strict=True))
    table = Table(
        "", "trials a minute", "goal", "ours / it", title=f"{trials} configurations, {EPOCHS} epochs"
    )
    table.add_row("ours", f"{own:.1f}", "", "")
    table.add_row("ours, with start and end", f"{whole:.1f}", "", "")
    if numbers:
        workers = faster(numbers, trials, data_dir)
        peer = measured("stock", trials, data_dir, workers)
        name = f"stock ({workers} DataLoader workers)"
        table.add_row(name, f"{peer.trials:.1f}", ">= 60", f"{own / peer.trials:.1f}")
        table.add_row(
            f"{name}, with start and end", f"{peer.whole:.1f}", ">= 25", f"{whole / peer.whole:.1f}"
        )
    table.add_row("bare training loop", f"{statistics.median(bare_rates):.1f}", ">= 0.80", f"{share:.2f}")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("AIQ_DATA_DIR"))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3, help="of ours and bare")
    parser.add_argument(
        "--peer-workers",
        type=int,
        nargs="*",
        default=[0, 2],
        help="DataLoader workers to try; none: no stock run",
    )
    parser.add_argument("--only", choices=["ours", "stock", "bare"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.data_dir is None:
        parser.error(
            "--data-dir or AIQ_DATA_DIR: expected the folder that holds MNIST as torchvision keeps it"
        )
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if not given.only:
        Console(width=110).print(compare(given.trials, given.rounds, given.peer_workers, given.data_dir))
        return
    points, folder = configurations(given.trials), Path(tempfile.mkdtemp(prefix="aiq-"))
    ways = {
        "ours": lambda: ours(points, folder, given.data_dir),
        "stock": lambda: stock(points, folder, given.data_dir, given.peer_workers[0]),
        "bare": lambda: bare(points, given.data_dir),
    }
    print(json.dumps(ways[given.only]()))


if __name__ == "__main__":
    main()
