"""What a GPU does for one trial, and for several that share it.

    python -m benchmarks.gpu [--share 8] [--epochs 3] [--data-dir DIR]

An epoch is one of ours: 50,000 images of MNIST's shape to learn from in batches of 200, and 10,000 to measure
accuracy and states on. Narrow networks are bound by the launching of kernels, not by arithmetic: one trial
alone leaves a GPU idle, and processes side by side fill it. The CPU column is one thread, as of a trial. On
the GPU each figure is measured twice: with kernels launched one by one, and with ``training.cuda_graphs``,
which launches a training step at once.
The images are MNIST's where ``--data-dir`` or ``AIQ_DATA_DIR`` holds them, random ones elsewhere; labels are
random, since nothing here depends on what is learnt.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from aiq_search.datasets import Dataset, Normalization, Split
from aiq_search.models import Architecture
from aiq_search.statespace import StateCapture
from aiq_search.training import TrainingOptions, TrainingRun
from aiq_search.training.evaluation import BATCH_SIZE
from benchmarks.statespace import images

NETWORKS: dict[str, tuple[str, dict[str, int]]] = {
    "LeNet-300-100, 19-21": ("lenet_300_100", {"hidden1": 19, "hidden2": 21}),
    "LeNet-300-100, 300-100": ("lenet_300_100", {"hidden1": 300, "hidden2": 100}),
    "LeNet-5, 2-4-8": ("lenet_5", {"conv1": 2, "conv2": 4, "fc": 8}),
    "LeNet-5, 20-50-500": ("lenet_5", {"conv1": 20, "conv2": 50, "fc": 500}),
    "LeNet-5, 256-256-256": ("lenet_5", {"conv1": 256, "conv2": 256, "fc": 256}),
}

_given: dict[str, Any] = {}  # what a process that shares the GPU works with


def data(data_dir: Path | None) -> Dataset:
    """60,000 images with random labels."""
    pictures = images(data_dir, train=True)[0].numpy()
    labels = np.random.default_rng(0).integers(0, 10, len(pictures))
    parts = [Split(pictures[a:b], labels[a:b]) for a, b in ((0, 50_000), (50_000, 60_000), (59_000, 60_000))]
    return Dataset("gpu", *parts, tuple("0123456789"), Normalization.standardise(pictures[:1000]), "none")


def begun(name: str, dataset: Dataset, epochs: int, device: str, graphs: bool = False) -> TrainingRun:
    """A run that has an epoch behind it."""
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    model, arguments = NETWORKS[name]
    architecture = Architecture(model, arguments, dataset.input_shape, len(dataset.classes))
    options = TrainingOptions(
        epochs=epochs + 1, batch_size=200, patience=None, device=device, cuda_graphs=graphs
    )
    run = TrainingRun(architecture, dataset, options, seed=0)
    run.run_epoch()
    return run


def alone(name: str, dataset: Dataset, epochs: int, device: str, graphs: bool = False) -> float:
    """Median seconds of an epoch."""
    run, seconds = begun(name, dataset, epochs, device, graphs), []
    for _ in range(epochs):
        start = time.perf_counter()
        run.run_epoch()  # ends with numbers on the CPU: nothing is left on the way
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def share_of_measuring(name: str, dataset: Dataset) -> float:
    """What capturing and counting states adds to the forward pass over the validation split, on the GPU."""
    run = begun(name, dataset, 1, "cuda")
    model = run.model.eval()

    def forward() -> None:
        with torch.inference_mode():
            for raw in torch.split(run.validation_split.inputs, BATCH_SIZE):
                model(run.validation_split.normalised(raw))
        torch.cuda.synchronize()

    ratios = []
    for _ in range(5):
        start = time.perf_counter()
        forward()
        middle = time.perf_counter()
        with StateCapture(model) as capture:
            forward()
            capture.compute()
        ratios.append((time.perf_counter() - middle) / (middle - start) - 1)
    return statistics.median(ratios)


def shared(pool: ProcessPoolExecutor, name: str, epochs: int, processes: int, graphs: bool) -> float:
    """Epochs a second of so many processes on one GPU."""
    jobs = [pool.submit(_train_with_others, name, epochs, graphs) for _ in range(processes)]
    spans = [job.result() for job in jobs]
    return processes * epochs / (max(end for _, end in spans) - min(start for start, _ in spans))


def _take(barrier: Barrier, dataset: Dataset) -> None:
    """Get a process that shares the GPU ready."""
    _given.update(barrier=barrier, dataset=dataset)


def _train_with_others(name: str, epochs: int, graphs: bool) -> tuple[float, float]:
    barrier = _given["barrier"]
    try:
        run = begun(name, _given["dataset"], epochs, "cuda", graphs)
    except BaseException:
        barrier.abort()  # the others must not wait for this one
        raise
    barrier.wait(300)
    start = time.time()
    for _ in range(epochs):
        run.run_epoch()
    return start, time.time()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("AIQ_DATA_DIR"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--share", type=int, default=8, help="processes that share the GPU")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("expected a GPU that torch can use, but there is none")
    dataset = data(given.data_dir)
    table = Table(
        *("network", "CPU thread, s an epoch", "states add to measuring", "kernels", "GPU, s an epoch"),
        *("than the CPU", f"{given.share} on the GPU, epochs/s", "than one alone, one by one"),
        title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}",
    )
    context = multiprocessing.get_context("spawn")
    with_others = (context.Barrier(given.share), dataset)
    pool = ProcessPoolExecutor(given.share, context, _take, with_others)
    for name in given.networks:
        print(name, file=sys.stderr, flush=True)
        cpu = alone(name, dataset, 1, "cpu")
        print(f"  CPU thread: {cpu:.2f} s an epoch", file=sys.stderr, flush=True)
        measuring = share_of_measuring(name, dataset)
        one_by_one = alone(name, dataset, given.epochs, "cuda")
        for graphs in (False, True):
            kernels = "as a graph" if graphs else "one by one"
            gpu = alone(name, dataset, given.epochs, "cuda", graphs) if graphs else one_by_one
            print(f"  GPU, kernels {kernels}: {gpu:.3f} s an epoch", file=sys.stderr, flush=True)
            together = shared(pool, name, given.epochs, given.share, graphs)
            print(f"  {given.share} of them: {together:.1f} epochs a second", file=sys.stderr, flush=True)
            table.add_row(
                *(("", "", "") if graphs else (name, f"{cpu:.2f}", f"{measuring:.0%}")),
                *(kernels, f"{gpu:.3f}", f"{cpu / gpu:.1f}x", f"{together:.1f}"),
                f"{together * one_by_one:.1f}x",
            )
    pool.shutdown()
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
