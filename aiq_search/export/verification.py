"""The proof that a bundle is what its card says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from aiq_search.datasets import Dataset, load_dataset
from aiq_search.errors import InputError
from aiq_search.export.bundle import Bundle, load_bundle
from aiq_search.export.card import device_table, numbers_table
from aiq_search.export.check import Check, Verification
from aiq_search.export.device.verification import check_device, check_int8, check_texts, run_texts
from aiq_search.export.documents import SplitMetrics
from aiq_search.export.errors import BundleError, BundleMismatchError
from aiq_search.export.example import read_example
from aiq_search.export.measurement import environment, measure_split, one_thread
from aiq_search.export.running import (
    Outputs,
    batch_size,
    compare,
    run_formats,
    run_in_batches,
    standalone_runner,
)
from aiq_search.training.evaluation import BATCH_SIZE as EVALUATED
from aiq_search.training.measures import Measures
from aiq_search.user_code import NO_CODE, CodePolicy, is_reference

__all__ = ["verify_bundle"]

# Another processor adds in another order: a sample at the border may fall to the other side.
ELSEWHERE = 1e-4


def verify_bundle(
    directory: Path | str,
    *,
    dataset: Dataset | None = None,
    data_dir: Path | None = None,
    with_data: bool = True,
    code: CodePolicy = NO_CODE,
    trusted: bool = False,
) -> Verification:
    """Verify a bundle: checksums, every format against every other, and the numbers measured again.

    Args:
        directory: The bundle.
        dataset: Its data, where the caller has them in memory.
        data_dir: Folder of the data files otherwise, see ``load_dataset``.
        with_data: Whether to check what needs the data.
        code: Which code the bundle may name; none by default.
        trusted: Whether this process wrote the bundle. Otherwise its pt2 and ONNX run in processes of their
            own, with bounds on memory and time.

    Returns:
        What was checked.

    Raises:
        InputError: There is no bundle, its data are not here, or it names code and that is not allowed.
        BundleError: The first thing in which the bundle is damaged, unsafe or wrong.
    """
    with one_thread():
        bundle = load_bundle(directory, code)
        if dataset is None and with_data:
            dataset = _load_data(bundle, data_dir, code)
        return Verification(bundle.directory, tuple(_checks(bundle, dataset, trusted=trusted)))


def _load_data(bundle: Bundle, data_dir: Path | None, code: CodePolicy) -> Dataset:
    if is_reference(bundle.dataset.name) and not code.allows(bundle.dataset.name):
        raise InputError(
            f"metrics.json: refused: the data come from code named {bundle.dataset.name!r}. If you trust "
            "that code, run from the folder that has it, or allow its package with --allow-code; or verify "
            "without the data, with --no-data."
        )
    return load_dataset(bundle.dataset, data_dir, code)


def _checks(bundle: Bundle, dataset: Dataset | None, *, trusted: bool) -> Iterator[Check]:
    yield Check("checksums", f"{len(bundle.files)} files, all as in SHA256SUMS")
    if "example_input.npz" not in bundle.files:
        raise BundleError("example_input.npz: missing from the bundle; export it again.")
    example = read_example(bundle.files["example_input.npz"], bundle.preprocessing)
    samples = [example["inputs"]]
    if dataset is not None:
        _check_data(bundle, dataset)
        samples.append(dataset.test.inputs)
    # What only needs the network comes first: starting a process for each graph takes seconds.
    own, size = standalone_runner(bundle.model, bundle.preprocessing), batch_size(bundle)
    _check_example(example, {"safetensors": run_in_batches("safetensors", own, example["inputs"], size)})
    texts = yield from check_texts(bundle)
    yield _check_card(bundle)
    if dataset is None:
        yield Check("numbers", "not measured: verified without the data", passed=None)
    else:
        batch_size(bundle, at_least=EVALUATED)
        for split in ("validation", "test"):
            yield _check_split(bundle, dataset, split)
    outputs = run_formats(bundle, samples, trusted=trusted)
    int8 = outputs.pop("int8", None)
    compiled = yield from run_texts(bundle, texts, samples)
    int8_compiled = compiled.pop("int8", None)
    outputs |= compiled
    if "model.onnx" in bundle.files and "onnx" not in outputs:
        yield Check("onnx", "not run: pip install onnx onnxruntime onnxscript", passed=None)
    yield _check_example(example, {name: results[0] for name, results in outputs.items()})
    if dataset is not None:
        yield from _compare_formats("test split", {name: results[1] for name, results in outputs.items()})
    yield from check_device(bundle, texts)
    yield from check_int8(bundle, dataset, outputs["safetensors"], int8, int8_compiled)


def _check_data(bundle: Bundle, dataset: Dataset) -> None:
    """The data are those that the bundle's numbers were measured on."""
    recorded, raw = bundle.metrics.dataset, bundle.preprocessing
    if dataset.digest != recorded.digest:
        raise BundleError(
            f"metrics.json: measured on data with digest {recorded.digest}, but {bundle.dataset.name} here "
            f"has {dataset.digest}: other files, or another version of the source."
        )
    if (dataset.input_shape, dataset.classes) != (raw.input_shape, raw.classes):
        raise BundleError(
            f"preprocessing.json: the shape of a sample or the names of the classes are not those of "
            f"{bundle.dataset.name}."
        )


def _check_example(example: Mapping[str, NDArray[Any]], outputs: Mapping[str, Outputs]) -> Check:
    """Every format gives what the example has recorded."""
    worst = 0.0
    for name, given in outputs.items():
        worst = max(worst, compare(("example_input.npz", name), example, given).logits)
    return Check("example", f"{', '.join(outputs)}: as recorded, logits within {worst:.1e}")


def _compare_formats(what: str, outputs: Mapping[str, Outputs]) -> Iterator[Check]:
    """Every format against every other."""
    for one, other in combinations(outputs, 2):
        samples = min(len(outputs[one]["logits"]), len(outputs[other]["logits"]))
        first, second = (
            {key: array[:samples] for key, array in outputs[name].items()} for name in (one, other)
        )
        difference = compare((one, other), first, second)
        ties = f", near ties left out: {difference.ties:,}" if difference.ties else ""
        yield Check(
            f"{what}, {one} and {other}",
            f"{samples:,} samples: logits within {difference.logits:.1e} of the largest "
            f"({difference.each:.1e} each by itself), probabilities within {difference.probabilities:.1e}, "
            f"same classes{ties}",
        )


def _check_split(bundle: Bundle, dataset: Dataset, split: str) -> Check:
    """Measure the network again and compare with the record, number by number."""
    here = environment() == bundle.metrics.environment
    tolerance = 0.0 if here else ELSEWHERE
    recorded = bundle.metrics.splits[split]  # type: ignore[index]
    measured = measure_split(
        bundle.model,
        dataset.split(split),
        bundle.preprocessing.normalization,
        beta=bundle.metrics.conventions.beta,
        measures=Measures(bundle.metrics.conventions.accuracy, tuple(recorded.measures)),
        capture=bundle.metrics.conventions.capture,
    )
    worst = 0.0
    for name, (old, new) in _numbers(recorded, measured).items():
        worst = max(worst, abs(old - new))
        if not abs(old - new) <= tolerance:
            raise BundleMismatchError(
                f"{split}: {name} is {new!r}, but metrics.json has {old!r}"
                f"{'' if here else f' (a difference of {ELSEWHERE:g} is allowed on another machine)'}."
            )
    where = "equal to metrics.json" if here else f"within {worst:.1e} of metrics.json (another machine)"
    numbers = (
        f"aIQ {measured.aiq:.4f}, accuracy {measured.accuracy:.4f}, efficiency {measured.efficiency:.4f}"
    )
    return Check(f"numbers, {split}", f"{numbers}: {where}")


def _numbers(recorded: SplitMetrics, measured: SplitMetrics) -> dict[str, tuple[float, float]]:
    """Pairs of recorded and measured numbers, by name."""
    pairs = {
        name: (getattr(recorded, name), getattr(measured, name))
        for name in ("samples", "accuracy", "efficiency", "aiq", "loss")
    }
    if recorded.layers.keys() != measured.layers.keys():
        raise BundleMismatchError(
            f"layers are {sorted(measured.layers)}, but metrics.json has {sorted(recorded.layers)}."
        )
    pairs |= {name: (value, measured.measures[name]) for name, value in recorded.measures.items()}
    for name, value in recorded.layers.items():
        pairs[f"efficiency of {name}"] = (value, measured.layers[name])
    return pairs


def _check_card(bundle: Bundle) -> Check:
    """The card shows the numbers of metrics.json, and metrics.json those of the seed that was exported."""
    card = bundle.files.get("MODEL_CARD.md", b"")
    if not all(
        table.encode() in card for table in (numbers_table(bundle.metrics), device_table(bundle.metrics))
    ):
        raise BundleMismatchError(
            "MODEL_CARD.md: its tables of numbers are not those of metrics.json; export again."
        )
    return Check("card", "its numbers are those of metrics.json")
