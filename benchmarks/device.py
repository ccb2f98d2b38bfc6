"""What networks ask of a device, for docs/device.md: ``python -m benchmarks.device --output docs/device.md``.

Three networks go through every format, each given as a bundle of ``aiq export``: the champions of
``search_spaces/digits.yaml`` (``--digits``) and ``search_spaces/lenet_5.yaml`` (``--lenet-5``), and a
smallest network (``--smallest``). In place of one that is not given, a network like it is trained: 8-6,
2-4-8 and 2-2. Every bundle is verified first. Run nothing else meanwhile: times are of single samples.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.export import BundleContents, load_bundle, verify_bundle, write_bundle
from aiq_search.export.bundle import Bundle
from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, TrainingRun
from aiq_search.training.measures import Measures
from benchmarks.pages import publish

BEGIN, END = "<!-- python -m benchmarks.device -->", "<!-- end -->"
FORMATS = {
    "safetensors": ("model.safetensors", "torch"),
    "pt2": ("model.pt2", "torch.export"),
    "onnx": ("model.onnx", "onnxruntime"),
    "int8": ("model_int8.onnx", "onnxruntime, int8"),
    "c": ("model.c", "C, float32"),
    "int8 c": ("model_int8.c", "C, int8"),
}


def trained(directory: Path, name: str, arguments: dict[str, int], data: DatasetOptions, rate: float) -> Path:
    """A bundle of a network, trained as a search trains it; seed 0."""
    dataset = load_dataset(data)
    architecture = Architecture(name, arguments, dataset.input_shape, len(dataset.classes))
    options = TrainingOptions(epochs=10, batch_size=200 if name == "lenet_5" else 32, learning_rate=rate)
    run = TrainingRun(architecture, dataset, options, seed=0)
    while not run.finished:
        run.run_epoch()
    write_bundle(directory, BundleContents(architecture, run.best_weights, dataset, data), max_drop=1.0)
    return directory


def table(title: str, bundle: Bundle) -> str:
    """The numbers of a bundle, a row a format."""
    metrics, device = bundle.metrics, bundle.metrics.device
    assert device is not None
    assert device.int8 is not None
    test, int8 = metrics.splits["test"], device.int8
    lines = [
        f"**{title}**: {metrics.size.parameters:,} parameters, {metrics.size.macs:,} multiply-accumulates a "
        f"sample. On the {test.samples:,} samples of the test split float32 has accuracy {test.accuracy:.4f} "
        f"and aIQ {test.aiq:.4f}; int8 has {int8.accuracy:.4f} (a drop of {int8.drop:.4f}), gives "
        f"{int8.agreement:.2%} of the samples the same class, and its weights have aIQ {int8.aiq:.4f}.",
        "",
        "| format | file | one sample, µs | weights | activations | flash | RAM |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (file, words) in FORMATS.items():
        number = "int8" if "int8" in name else "float32"
        build = device.builds.get(number) if name.endswith("c") and name != "onnx" else None
        cells = [f"{len(bundle.files[file]):,}", f"{device.latency[name]:.4g}"]
        if build is None:
            cells += ["", "", "", ""]
        else:
            sizes = (device.weights[number], device.activations[number], build.flash, build.ram)
            cells += [f"{size:,}" for size in sizes]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured_again(directory: Path, source: Path) -> Bundle:
    """A bundle written anew from another's weights, in every format, with the times of this machine."""
    verify_bundle(source, trusted=True)
    bundle = load_bundle(source)
    conventions = bundle.metrics.conventions
    contents = BundleContents(
        bundle.architecture,
        bundle.model.state_dict(),
        load_dataset(bundle.dataset),
        bundle.dataset,
        beta=conventions.beta,
        capture=conventions.capture,
        measures=Measures(conventions.accuracy, tuple(bundle.metrics.splits["test"].measures)),
    )
    write_bundle(directory, contents, max_drop=1.0)
    return load_bundle(directory)


def main() -> None:
    """Print the tables, or put them into a page between its marks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option in ("--digits", "--lenet-5", "--smallest"):
        parser.add_argument(option, type=Path, metavar="BUNDLE")
    parser.add_argument("--output", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    mnist = DatasetOptions(name="mnist", validation=10000)
    digits = DatasetOptions(name="digits", validation=360, test=360)
    substitutes: dict[str, tuple[str, str, dict[str, int], DatasetOptions]] = {
        "Champion of digits.yaml": ("digits", "mlp", {"hidden1": 8, "hidden2": 6}, digits),
        "Champion of lenet_5.yaml": ("lenet_5", "lenet_5", {"conv1": 2, "conv2": 4, "fc": 8}, mnist),
        "Smallest network": ("smallest", "mlp", {"hidden1": 2, "hidden2": 2}, digits),
    }
    opened = {}
    with tempfile.TemporaryDirectory() as scratch:
        for title, (option, model, widths, data) in substitutes.items():
            folder, given = Path(scratch) / option, getattr(arguments, option)
            shape = "-".join(map(str, widths.values()))
            if given is None:
                name = f"In place of the {title[0].lower()}{title[1:]}, {shape} on {data.name}"
                opened[name] = load_bundle(trained(folder, model, widths, data, 0.02))
            else:
                opened[title] = measured_again(folder, given)
    environment = next(iter(opened.values())).metrics.environment
    text = "\n\n".join(
        [
            f"Measured on {environment['processor']}, one thread, with torch {environment['torch']}.",
            *(table(title, bundle) for title, bundle in opened.items()),
        ]
    )
    publish(text, BEGIN, END, arguments.output)


if __name__ == "__main__":
    main()
