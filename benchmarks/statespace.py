"""How fast, and in how much memory, the state-space engine measures a network.

    python -m benchmarks.statespace [--data-dir DIR] [--pairs 15]

Every comparison is interleaved in one process on one thread; figures are medians of paired differences or
ratios. Memory is ``ru_maxrss`` of processes of their own. The images are MNIST's where ``--data-dir`` or
``AIQ_DATA_DIR`` holds them in torchvision's layout, random ones elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from aiq_search.statespace import StateCapture, StateCounter, network_efficiency

BATCH = 200
LENET_LAYERS = ("0", "3", "6")
MLP_LAYERS = ("0", "2")
BACKENDS = ("compiled", "torch")


def lenet() -> nn.Sequential:
    """LeNet-5 with 20-50-100 neurons and ELU."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ELU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5), nn.ELU(), nn.MaxPool2d(2),
        nn.Conv2d(50, 100, 4), nn.ELU(), nn.Flatten(), nn.Linear(100, 10),
    ).eval()  # fmt: skip


def mlp() -> nn.Sequential:
    """784-300-100-10 with ELU."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(784, 300), nn.ELU(), nn.Linear(300, 100), nn.ELU(), nn.Linear(100, 10)
    ).eval()


def images(data_dir: Path | None, train: bool) -> tuple[torch.Tensor, str]:
    """uint8, (N, 1, 28, 28), and where they come from."""
    name = "train-images-idx3-ubyte" if train else "t10k-images-idx3-ubyte"
    path = None if data_dir is None else data_dir / "MNIST" / "raw" / name
    if path is not None and path.is_file():
        raw = np.fromfile(path, dtype=np.uint8, offset=16).reshape(-1, 1, 28, 28)
        return torch.from_numpy(raw), "MNIST"
    generator = torch.Generator().manual_seed(1)
    shape = (60_000 if train else 10_000, 1, 28, 28)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator), "random"


def batches(pictures: torch.Tensor, flat: bool) -> Iterator[torch.Tensor]:
    """Normalised batches, made one at a time."""
    for part in torch.split(pictures, BATCH):
        scaled = part.float().sub_(33.3).div_(78.6)
        yield scaled.flatten(1) if flat else scaled


def forward(model: nn.Module, pictures: torch.Tensor, flat: bool) -> None:
    """The plain forward pass over all images."""
    with torch.inference_mode():
        for batch in batches(pictures, flat):
            model(batch)


def engine(activations: list[list[torch.Tensor]], backend: str) -> list[float]:
    """Packing, counting and entropy of recorded activations by our counters."""
    found = []
    for layer in activations:
        counter = StateCounter(layer[0].shape[1], backend=backend)
        for batch in layer:
            counter.update(batch, axis=1)
        found.append(counter.compute().entropy)
    return found


def obvious(activations: list[list[torch.Tensor]]) -> list[float]:
    """The obvious way: packbits on a permuted copy, keep all rows, numpy.unique."""
    found = []
    for layer in activations:
        rows = []
        for batch in layer:
            copy = batch.movedim(1, -1).reshape(-1, batch.shape[1]).contiguous().numpy()
            rows.append(np.packbits(copy > 0, axis=1))
        _, counts = np.unique(np.concatenate(rows), axis=0, return_counts=True)
        share = counts / counts.sum()
        found.append(float(-(share * np.log2(share)).sum()))
    return found


def record(
    model: nn.Module, layers: tuple[str, ...], pictures: torch.Tensor, flat: bool
) -> list[list[torch.Tensor]]:
    """The activations of some layers, one list of batches a layer."""
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    named = dict(model.named_modules())
    handles = [
        named[name].register_forward_hook(lambda _m, _i, out, name=name: kept[name].append(out.clone()))
        for name in layers
    ]
    forward(model, pictures, flat)
    for handle in handles:
        handle.remove()
    return list(kept.values())


def seconds(action: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def bandwidth() -> float:
    """Bytes a second that one thread reads from memory (a sum over 256 MiB)."""
    block = torch.ones(1 << 26)
    return 4 * block.numel() / min(seconds(block.sum) for _ in range(7))


def entropies(capture: StateCapture) -> list[float]:
    """What is left for the end: sorting what waits, and the entropy of each layer."""
    return [states.entropy for states in capture.compute().values()]


def capture_overhead(pictures: torch.Tensor, backend: str, pairs: int) -> tuple[float, float, float]:
    """Capture during the forward pass against the plain one, on LeNet-5.

    Pairs are single batches, captured and plain in turn, each order equally often.

    Returns:
        Median seconds a plain batch; median of the paired differences; the whole data set's counting that is
        left for the end (sorting and entropy), in seconds a batch.
    """
    model = lenet()
    plain, difference, rest = [], [], []
    with torch.inference_mode():
        for _ in range(pairs):
            capture = StateCapture(model, layers=LENET_LAYERS, backend=backend)
            for number, batch in enumerate(batches(pictures, flat=False)):
                times = {}
                for captured in (number % 2 == 0, number % 2 == 1):
                    if captured:
                        with capture:
                            times[True] = seconds(partial(model, batch))
                    else:
                        times[False] = seconds(partial(model, batch))
                plain.append(times[False])
                difference.append(times[True] - times[False])
            rest.append(seconds(partial(entropies, capture)) / (number + 1))
    return float(np.median(plain)), float(np.median(difference)), float(np.median(rest))


def ratio_to_obvious(activations: list[list[torch.Tensor]], pairs: int) -> dict[str, tuple[float, float]]:
    """For each backend the median ratio, and the median of our seconds."""
    reference = obvious(activations)
    ratios: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    ours: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    for backend in BACKENDS:
        np.testing.assert_allclose(engine(activations, backend), reference, atol=1e-9)
    for _ in range(pairs):
        slow = seconds(partial(obvious, activations))
        for backend in BACKENDS:
            fast = seconds(partial(engine, activations, backend))
            ratios[backend].append(slow / fast)
            ours[backend].append(fast)
    return {b: (float(np.median(ratios[b])), float(np.median(ours[b]))) for b in BACKENDS}


def memory_worker(kind: str, data_dir: Path | None) -> None:
    """Run LeNet-5 over the training images, plain or captured, and print the peak memory in bytes."""
    torch.set_num_threads(1)
    pictures, _ = images(data_dir, train=True)
    model = lenet()
    document: dict[str, Any] = {}
    if kind == "plain":
        forward(model, pictures, flat=False)
    else:
        with StateCapture(model, layers=LENET_LAYERS, backend=kind) as capture:
            forward(model, pictures, flat=False)
        states = capture.compute()
        document["efficiency"] = network_efficiency(layer.efficiency for layer in states.values())
        document["distinct"] = {name: layer.distinct for name, layer in states.items()}
    document["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(document))


def peak_memory(kind: str, data_dir: Path | None) -> dict[str, Any]:
    """What `memory_worker` prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.statespace", "--memory", kind]
    if data_dir is not None:
        command += ["--data-dir", str(data_dir)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def merge_seconds(backend: str, pairs: int) -> float:
    """Merge of two accumulators of 64 neurons with a million distinct states each."""
    times = []
    for seed in range(pairs):
        counters = []
        for half in range(2):
            generator = torch.Generator().manual_seed(2 * seed + half)
            counter = StateCounter(64, backend=backend)
            for _ in range(10):
                counter.update(torch.randn(100_000, 64, generator=generator))
            if counter.compute().distinct < 999_999:
                raise RuntimeError("Expected a million distinct states.")
            counters.append(counter)
        times.append(seconds(partial(counters[0].merge, counters[1])))
    return float(np.median(times))


def floor_of(activations: list[list[torch.Tensor]], speed: float) -> float:
    """Seconds that reading every activation once takes at the least."""
    return sum(4 * batch.numel() for layer in activations for batch in layer) / speed


def memory_row(data_dir: Path | None) -> tuple[str, str, str, str]:
    """Peak memory above the plain forward pass; the floor is a key and a count of each distinct state."""
    plain = peak_memory("plain", data_dir)["peak"]
    for backend in BACKENDS:  # a kernel's first use on a machine compiles it
        StateCounter(1, backend=backend).update(torch.ones(1, 1))
    peaks = {backend: peak_memory(backend, data_dir) for backend in BACKENDS}
    distinct = sum(peaks["torch"]["distinct"].values())
    cells = [
        f"{(peaks[backend]['peak'] - plain) / 1e6:.0f} MB (at most {goal} MB)"
        for backend, goal in zip(BACKENDS, (100, 200), strict=True)
    ]
    return "peak memory above plain, 60,000 images", *cells, f"{9 * distinct / 1e6:.0f} MB"


def report(data_dir: Path | None, pairs: int) -> None:
    """Measure everything and print the table."""
    # First, while this process is small: a child inherits its parent's ru_maxrss.
    memory = memory_row(data_dir)
    test, source = images(data_dir, train=False)
    speed = bandwidth()
    print(f"{source} images; {torch.get_num_threads()} thread; torch {torch.__version__}; {pairs} pairs")
    print(f"reading memory: {speed / 1e9:.1f} GB/s\n")
    rows: list[tuple[str, str, str, str]] = []
    recorded = record(lenet(), LENET_LAYERS, test, flat=False)
    floor = floor_of(recorded, speed)
    cells, ends = [], []
    for backend, goal in zip(BACKENDS, ("3 %", "15 %"), strict=True):
        plain, extra, rest = capture_overhead(test, backend, pairs)
        cells.append(f"{100 * extra / plain:.2f} % (at most {goal})")
        ends.append(f"{100 * (extra + rest) / plain:.2f} %")
        lowest = 100 * floor / (len(recorded[0]) * plain)
    rows.append(("capture overhead, LeNet-5", *cells, f"{lowest:.2f} %"))
    rows.append(("the same, sorting and entropy included", *ends, f"{lowest:.2f} %"))
    found = ratio_to_obvious(recorded, pairs)
    slow = found["torch"][0] * found["torch"][1]
    rows.append(("times faster than the obvious way, LeNet-5",
                 f"{found['compiled'][0]:.0f}x (at least 100x)", f"{found['torch'][0]:.0f}x (at least 20x)",
                 f"{slow / floor:.0f}x"))  # fmt: skip
    del recorded
    train, _ = images(data_dir, train=True)
    recorded = record(mlp(), MLP_LAYERS, train, flat=True)
    floor = floor_of(recorded, speed)
    found = ratio_to_obvious(recorded, pairs)
    slow = found["torch"][0] * found["torch"][1]
    rows.append(("the same, 784-300-100-10 over 60,000",
                 f"{found['compiled'][0]:.1f}x (at least 3x)", f"{found['torch'][0]:.1f}x (at least 1x)",
                 f"{slow / floor:.0f}x"))  # fmt: skip
    del recorded
    rows.append(memory)
    few = max(3, pairs // 5)
    rows.append(("merge of a million distinct states each",
                 *(f"{merge_seconds(b, few):.2f} s (at most {goal} s)"
                   for b, goal in zip(BACKENDS, (1, 2), strict=True)),
                 f"{2 * 32e6 / speed:.3f} s"))  # fmt: skip
    print("| figure | compiled kernel | pure torch | floor |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("AIQ_DATA_DIR"))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--memory", choices=("plain", *BACKENDS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data_dir = None if arguments.data_dir is None else Path(arguments.data_dir)
    torch.set_num_threads(1)
    if arguments.memory:
        memory_worker(arguments.memory, data_dir)
    else:
        report(data_dir, arguments.pairs)


if __name__ == "__main__":
    main()
