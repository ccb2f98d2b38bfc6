"""Size, difference and latency of every format of a bundle: ``python -m benchmarks.export BUNDLE``.

Latency is the median of many single calls with one sample, on one thread; run nothing else meanwhile.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aiq_search.export import load_bundle
from aiq_search.export.example import read_example
from aiq_search.export.running import BATCH_SIZE, compare, load_formats, run_in_batches

FILES = {"safetensors": "model.safetensors", "pt2": "model.pt2", "onnx": "model.onnx"}
CALLS = 2000


def median_seconds(call: Callable[[], object]) -> float:
    """Median duration of a call, after some to warm up."""
    for _ in range(CALLS // 10):
        call()
    durations = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        durations.append(time.perf_counter() - begun)
    return statistics.median(durations)


def main() -> None:
    """Print one line a format, and the size of the whole bundle."""
    torch.set_num_threads(1)
    bundle = load_bundle(Path(sys.argv[1]))
    example = read_example(bundle.files["example_input.npz"], bundle.preprocessing)
    expected = {name: example[name] for name in ("logits", "probabilities")}
    print(f"{'format':12} {'bytes':>10} {'largest difference':>20} {'batch 1':>12}")
    for name, run in load_formats(bundle.model, bundle.preprocessing, bundle.files).items():
        if name == "int8":
            continue  # no rounding error: benchmarks.device has what eight bits cost
        difference = compare(
            ("expected", name), expected, run_in_batches(name, run, example["inputs"], BATCH_SIZE)
        )
        one = example["inputs"][:1]
        seconds = median_seconds(lambda run=run, one=one: run(one))
        size = len(bundle.files[FILES[name]])
        print(f"{name:12} {size:10,} {difference.logits:20.1e} {1e6 * seconds:9.1f} us")
    print(f"{'all files':12} {sum(map(len, bundle.files.values())):10,}")


if __name__ == "__main__":
    main()
