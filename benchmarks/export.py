"""Size, difference and latency of every format of a bundle: ``python -m benchmarks.export BUNDLE``.

Latency is the median of many single calls with one sample, on one thread; run nothing else meanwhile. Then
the bundle is written anew with more and more formats: seconds on the clock, of processor time in this
process, and of that in compilers.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aiq_search.datasets import load_dataset
from aiq_search.export import BundleContents, load_bundle, write_bundle
from aiq_search.export.bundle import Bundle
from aiq_search.export.example import read_example
from aiq_search.export.running import BATCH_SIZE, compare, load_formats, run_in_batches
from aiq_search.export.warm_up import warm_up

SETS = (("safetensors",), ("safetensors", "pt2"), ("safetensors", "pt2", "onnx"), None)  # None: every format
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


def writing(bundle: Bundle) -> None:
    """Print a line for each set of formats in which the bundle is written and verified."""
    data = load_dataset(bundle.dataset)
    contents = BundleContents(bundle.architecture, bundle.model.state_dict(), data, bundle.dataset)
    warm_up()
    print(f"\n{'written and verified':30} {'clock':>8} {'process':>8} {'children':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for number, formats in enumerate(SETS):
            before = time.perf_counter(), time.process_time(), children()
            write_bundle(Path(scratch) / str(number), contents, formats=formats)
            after = time.perf_counter(), time.process_time(), children()
            spent = [f"{new - old:8.2f}" for old, new in zip(before, after, strict=True)]
            print(f"{', '.join(formats or ['every format']):30} {' '.join(spent)}")


def children() -> float:
    """Processor seconds of the processes that this one started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    writing(bundle)


if __name__ == "__main__":
    main()
