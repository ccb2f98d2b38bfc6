"""``MODEL_CARD.md`` and ``predict.py``: what somebody without this package needs."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from aiq_search.export.documents import (
    ArchitectureDocument,
    MetricsDocument,
    PreprocessingDocument,
    SpreadDocument,
)
from aiq_search.training.measures import COSTS
from aiq_search.words import shown

__all__ = ["PREDICT_SCRIPT", "device_table", "model_card", "numbers_table"]

PREDICT_SCRIPT = '''\
"""Classify the samples of an .npy or .npz with onnxruntime and numpy: python predict.py example_input.npz"""
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

if len(sys.argv) != 2:
    print(__doc__, file=sys.stderr)
    sys.exit(2)
here = Path(__file__).parent
document = json.loads((here / "preprocessing.json").read_text(encoding="utf-8"))
try:
    data = np.load(sys.argv[1])
    names = getattr(data, "files", None)  # of an .npz: the array "inputs", or the first
    inputs = data if names is None else data["inputs" if "inputs" in names else names[0]]
    if document["input_dtype"] == "float32":
        inputs = inputs.astype("float32")
    session = onnxruntime.InferenceSession(str(here / "model.onnx"), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"inputs": inputs})
except Exception as error:  # onnxruntime's have no common base
    print(f"{sys.argv[1]}: {error}", file=sys.stderr)
    sys.exit(2)
for number, row in enumerate(probabilities):
    print(number, document["classes"][row.argmax()], f"{row.max():.4f}", sep="\\t")
'''

_COSTS = {
    "activation_bytes": "activations at once, bytes",
    "latency_ms": "milliseconds of a sample, in the search",
}
_NAMES = {"aiq": "aIQ", "accuracy": "accuracy", "efficiency": "efficiency", "loss": "loss (nats)"}


def numbers_table(metrics: MetricsDocument) -> str:
    """The numbers of the exported network and of its configuration, as a table of Markdown."""
    lines = [
        "| | validation | test | validation, all seeds | test, all seeds |",
        "|---|---|---|---|---|",
    ]
    for name, title in _NAMES.items():
        cells = [f"{getattr(metrics.splits[split], name):.4f}" for split in ("validation", "test")]
        cells += [_spread(metrics, split, name) for split in ("validation", "test")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    for measure in metrics.splits["validation"].measures:
        cells = [f"{metrics.splits[split].measures[measure]:.4f}" for split in ("validation", "test")]
        cells += [_spread(metrics, split, measure) for split in ("validation", "test")]
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    for cost in COSTS:
        if cost in metrics.configuration.get("validation", {}):
            lines.append(f"| {_COSTS[cost]} | | | {_spread(metrics, 'validation', cost)} | |")
    for layer in metrics.splits["validation"].layers:
        cells = [f"{metrics.splits[split].layers[layer]:.4f}" for split in ("validation", "test")]
        lines.append(f"| efficiency of `{layer}` | {' | '.join(cells)} | | |")
    return "\n".join(lines)


_LATENCIES = {
    "safetensors": "torch", "pt2": "pt2", "onnx": "ONNX", "int8": "ONNX, int8", "c": "C", "int8 c": "C, int8",
}  # fmt: skip


def device_table(metrics: MetricsDocument) -> str:
    """What the network asks of a device, as a table of Markdown; nothing if that is not known."""
    device = metrics.device
    if device is None:
        return ""
    lines = ["| | float32 | int8 |", "|---|---|---|"]
    flash = {name: f"{build.flash:,}" for name, build in device.builds.items()}
    ram = {name: f"{build.ram:,}" for name, build in device.builds.items()}
    rows: list[tuple[str, Mapping[Any, str]]] = [
        ("weights, bytes", {name: f"{size:,}" for name, size in device.weights.items()}),
        ("activations at once, bytes", {name: f"{size:,}" for name, size in device.activations.items()}),
        ("flash on a Cortex-M4, bytes", flash),
        ("RAM on a Cortex-M4, bytes", ram),
    ]
    lines += [
        f"| {title} | {cells.get('float32', '-')} | {cells.get('int8', '-')} |" for title, cells in rows
    ]
    if device.int8 is not None:
        test, int8 = metrics.splits["test"], device.int8
        lines += [
            f"| accuracy, test | {test.accuracy:.4f} | {int8.accuracy:.4f} (a drop of {int8.drop:.4f}) |",
            f"| aIQ, test | {test.aiq:.4f} | {int8.aiq:.4f} |",
            f"| same class as float32, test | | {int8.agreement:.2%} |",
        ]
    times = [f"{_LATENCIES.get(name, name)} {value:,.4g}" for name, value in device.latency.items()]
    return "\n".join(
        [*lines, "", f"Microseconds of one sample by itself, on one thread: {', '.join(times)}."]
    )


def _device(metrics: MetricsDocument) -> str:
    device = metrics.device
    if device is None:
        return ""
    sentences = [
        "Batch norms are folded into the weights. RAM is that of the C file: its buffer, one raw input and "
        "the outputs, without a stack. Flash includes what is used of `math.h`."
        + "".join(f" Compiled by {each}." for each in sorted({b.compiler for b in device.builds.values()}))
    ]
    if device.int8 is not None:
        sentences.append(
            f"Eight bits: weights per channel, ranges of activations from {device.int8.calibrated:,} "
            "training samples. Its aIQ is that of the network with these weights."
        )
    processor = metrics.environment.get("processor", "this machine")
    return "\n\n".join(["## On a device", device_table(metrics), *sentences, f"Times: {processor}."])


def _spread(metrics: MetricsDocument, split: str, name: str) -> str:
    spread: SpreadDocument | None = metrics.configuration.get(split, {}).get(name)
    if spread is None:
        return "-"
    return f"{shown(name, spread.mean, spread.sd)} (n = {spread.n})"


def _reference(metrics: MetricsDocument) -> str:
    """What the configuration gives up against the most accurate network, in a sentence."""
    reference = metrics.reference
    if reference is None:
        return ""
    lost = reference.points_lost
    deviation = "" if lost.sd is None else f" ± {lost.sd:.2f}"
    less = "less" if lost.mean >= 0 else "more"
    return (
        f"Its configuration is {abs(lost.mean):.2f}{deviation} percentage points {less} accurate on the test "
        f"split than the most accurate network of the search, which has {reference.size:,} parameters, "
        f"{reference.times_fewer_parameters:,.1f} times as many; both were trained on the same {lost.n} "
        "fresh seeds."
    )


def model_card(
    architecture: ArchitectureDocument,
    preprocessing: PreprocessingDocument,
    metrics: MetricsDocument,
    files: Collection[str],
) -> str:
    """The card of a bundle.

    Args:
        architecture: The network.
        preprocessing: What it takes and gives.
        metrics: Its numbers.
        files: Names of the bundle's files; formats that are not there are not explained.

    Returns:
        Markdown.
    """
    size = metrics.size
    sections = [
        f"# {architecture.name} on {metrics.dataset.options.name}",
        "A network searched for its artificial intelligence quotient (aIQ: accuracy weighed with the entropy "
        "of the network's firing states; Schaub and Hotaling, 2023, doi 10.3390/app131810286), exported by "
        f"aiq-search {metrics.environment.get('aiq_search', '')}.",
        "## What it is",
        f"`{architecture.name}` with `{json.dumps(architecture.arguments)}`: {size.parameters:,} parameters "
        f"({size.parameters_weights:,} weights of convolutions and linear layers), {size.macs:,} "
        "multiply-accumulates a sample.",
        _source(metrics),
        "## Data",
        _data(preprocessing, metrics),
        "## Numbers",
        numbers_table(metrics),
        "The first two columns are this network's. The others are mean ± standard deviation over seeds with "
        "which its configuration was trained: for validation the seeds that it was chosen by, for test fresh "
        "ones that had no part in the choice. All numbers, by seed and layer: `metrics.json`.",
        _reference(metrics),
        f"Conventions: beta = {metrics.conventions.beta:g}; the accuracy in aIQ is "
        f"{metrics.conventions.accuracy}; states are read {metrics.conventions.capture}; "
        f"{metrics.conventions.state}.",
        _device(metrics),
        "## Limits",
        _limits(metrics),
        "## How to use it",
        _usage(preprocessing, files),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _source(metrics: MetricsDocument) -> str:
    facts = {name: value for name, value in metrics.source.items() if isinstance(value, str | int | float)}
    return "\n".join(f"* {name.replace('_', ' ')}: `{value}`" for name, value in facts.items())


def _data(preprocessing: PreprocessingDocument, metrics: MetricsDocument) -> str:
    dataset = metrics.dataset
    noise = dataset.options.label_noise
    shape = " x ".join(str(length) for length in preprocessing.input_shape)
    low, high = preprocessing.training_range
    return "\n".join(
        [
            f"* `{dataset.options.name}`: {dataset.train:,} samples to learn from, {dataset.validation:,} to "
            f"select on, {dataset.test:,} to test on (SHA-256 over all: `{dataset.digest}`).",
            f"* {noise:.0%} of the training labels were replaced by random ones." if noise else "",
            f"* Input: {preprocessing.input_dtype}, N x {shape}; in training from {low:g} to {high:g}. "
            "The pt2 and the ONNX include the normalisation.",
            f"* Classes: {', '.join(preprocessing.classes)}.",
        ]
    ).replace("\n\n", "\n")


def _limits(metrics: MetricsDocument) -> str:
    samples = metrics.splits["test"].samples
    return "\n".join(
        [
            f"* Measured on this data only, with {samples:,} test samples: its accuracy has a standard error "
            f"of {_standard_error(metrics):.4f} from the choice of those samples alone.",
            "* The entropy of a layer cannot exceed log2 of the observations "
            f"({math.log2(samples):.1f} bits for one state a sample): efficiencies compare only at the same "
            "split and size.",
            *(f"* {warning}" for warning in metrics.dataset.warnings),
            *_choice(metrics),
            "* The probabilities are an uncalibrated softmax. Whatever the input, the answer is one of the "
            "classes.",
            "* `SHA256SUMS` shows damage, not forgery: whoever can change a file can change its checksum.",
        ]
    )


def _choice(metrics: MetricsDocument) -> list[str]:
    if len(metrics.seeds) < 2:
        return ["* Trained with one seed: with another, aIQ may differ by several hundredths."]
    return [
        f"* The best of {len(metrics.seeds)} seeds on validation: expect the mean from training again, not "
        "this network's numbers."
    ]


def _standard_error(metrics: MetricsDocument) -> float:
    test = metrics.splits["test"]
    return math.sqrt(test.accuracy * (1 - test.accuracy) / test.samples)


def _usage(preprocessing: PreprocessingDocument, files: Collection[str]) -> str:
    parts = [
        "`example_input.npz` holds raw `inputs`, their `labels`, and the `logits` and `probabilities` to "
        "expect.",
        "With aiq-search: `aiq verify .` measures everything again, `aiq predict . INPUT…` classifies. In "
        "Python:",
        "```python\nfrom pathlib import Path\n\nfrom aiq_search.export import load_bundle\n\n"
        'bundle = load_bundle(Path("."))\n'
        "bundle.model  # takes inputs * scale + shift of preprocessing.json\n```",
    ]
    if "model.onnx" in files:
        parts += [
            "With onnxruntime and numpy alone: `python predict.py example_input.npz`, or",
            "```python\nimport numpy as np, onnxruntime\n\n"
            'inputs = np.load("example_input.npz")["inputs"]\n'
            'session = onnxruntime.InferenceSession("model.onnx")\n'
            'logits, probabilities = session.run(["logits", "probabilities"], {"inputs": inputs})\n```',
        ]
    if "model.pt2" in files:
        parts += [
            "With torch alone (`torch.export.load` can run code: only for a file whose origin you trust, or "
            "after `aiq verify`):",
            "```python\nimport numpy as np, torch\n\n"
            'inputs = torch.from_numpy(np.load("example_input.npz")["inputs"])\n'
            'outputs = torch.export.load("model.pt2").module()(inputs)\n'
            'logits, probabilities = outputs["logits"], outputs["probabilities"]\n```',
        ]
    if "model.c" in files:
        parts.append(_c_usage("model", preprocessing))
    if "model_int8.c" in files:
        parts.append(_c_usage("model_int8", preprocessing))
    elif "model_int8.onnx" in files:
        parts.append("`model_int8.onnx` takes and gives the same as `model.onnx`.")
    return "\n\n".join(parts)


def _c_usage(name: str, preprocessing: PreprocessingDocument) -> str:
    kind = "uint8_t" if preprocessing.input_dtype == "uint8" else "float"
    guard = name.upper()
    return (
        f"In C99, with `{name}.c` and `{name}.h` in your project (and `-lm`):\n\n"
        f'```c\n#include "{name}.h"\n\n{kind} inputs[{guard}_INPUTS];  /* channel, row, column */\n'
        f"float logits[{guard}_CLASSES], probabilities[{guard}_CLASSES];\n\n{name}_logits(inputs, logits);\n"
        f"{name}_probabilities(logits, probabilities);\n```"
    )
