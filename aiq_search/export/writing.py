"""From a network and its numbers to a bundle on disk."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from aiq_search.errors import InputError
from aiq_search.export.card import PREDICT_SCRIPT, model_card
from aiq_search.export.check import Check, Verification
from aiq_search.export.contents import FORMATS, MAX_DROP, BundleContents
from aiq_search.export.device.writing import DeviceFiles
from aiq_search.export.documents import (
    ArchitectureDocument,
    Conventions,
    DatasetDocument,
    Document,
    MetricsDocument,
    PreprocessingDocument,
    SizeDocument,
)
from aiq_search.export.errors import BundleMismatchError
from aiq_search.export.example import example_bytes
from aiq_search.export.files import CHECKSUMS, checksums, new_directory, read_files
from aiq_search.export.measurement import environment, measure_split, one_thread
from aiq_search.export.onnx_file import onnx_bytes
from aiq_search.export.pt2 import export_program, pt2_bytes
from aiq_search.export.running import load_formats, run_in_batches, standalone_runner
from aiq_search.export.verification import verify_bundle
from aiq_search.export.weights import load_network, weights_bytes
from aiq_search.lowering.onnx_extra import require_onnx
from aiq_search.models import model_size
from aiq_search.suggest import did_you_mean
from aiq_search.user_code import NO_CODE, CodePolicy

__all__ = ["check_formats", "copy_bundle", "write_bundle"]

EXAMPLES = 8


def check_formats(formats: Collection[str] | None) -> None:
    """Check that formats are known and can be written here, before any work is done.

    Raises:
        InputError: One is unknown, or needs an extra that is not installed.
    """
    for name in formats or ():
        if name not in FORMATS:
            raise InputError(f"--format: unknown format {name!r}; {did_you_mean(name, FORMATS)}")
    if {"onnx", "int8"} & set(formats or ()):
        require_onnx()


def write_bundle(
    directory: Path | str,
    contents: BundleContents,
    *,
    formats: Collection[str] | None = None,
    max_drop: float = MAX_DROP,
    force: bool = False,
) -> Verification:
    """Write a bundle and verify it.

    The directory appears complete and verified, or not at all.

    Args:
        directory: Where to; must not exist.
        contents: The network and its numbers.
        formats: Of ``FORMATS``; safetensors is always written. By default all that can be written: a format
            that cannot express the network, or needs an extra that is not installed, is left out and noted.
        max_drop: Accuracy on the test split that the network may lose in eight bits.
        force: Replace a bundle that is there.

    Returns:
        What was verified.

    Raises:
        InputError: Something is at ``directory`` already, or a format that was asked for cannot be written.
        BundleError: What was written is not what the search found.
    """
    check_formats(formats)
    directory = Path(directory)
    with new_directory(directory, force=force) as fresh, one_thread():
        files, notes = _files(contents, formats, max_drop)
        files[CHECKSUMS] = checksums(files)
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        code = contents.architecture.code
        verification = verify_bundle(fresh, dataset=contents.dataset, code=code, trusted=True)
    return Verification(directory, (*notes, *verification.checks))


def copy_bundle(
    source: Path | str,
    directory: Path | str,
    *,
    force: bool = False,
    data_dir: Path | None = None,
    with_data: bool = True,
    code: CodePolicy = NO_CODE,
) -> Verification:
    """Copy a bundle of unknown origin, and verify the copy before it takes its name.

    Args:
        source: The bundle.
        directory: Where to; must not exist.
        force: Replace a bundle that is there.
        data_dir: Folder of the data files, see ``load_dataset``.
        with_data: Whether to check what needs the data.
        code: Which code the bundle may name; none by default.

    Returns:
        What was verified.

    Raises:
        InputError: Something is at ``directory`` already, or there is no bundle.
        BundleError: The bundle is damaged, unsafe, or not what its card says.
    """
    directory = Path(directory)
    with new_directory(directory, force=force) as fresh:
        files = read_files(Path(source))
        files[CHECKSUMS] = checksums(files)
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        checks = verify_bundle(fresh, data_dir=data_dir, with_data=with_data, code=code).checks
    return Verification(directory, checks)


def _files(
    contents: BundleContents, formats: Collection[str] | None, max_drop: float
) -> tuple[dict[str, bytes], list[Check]]:
    weights = weights_bytes(contents.weights)
    network = load_network(contents.architecture, weights)
    architecture = ArchitectureDocument.of(contents.architecture)
    preprocessing = PreprocessingDocument.of(
        contents.dataset, resize=contents.dataset_options.size is not None
    )
    metrics = _metrics(contents, network, preprocessing)
    checks = [_check_expected(contents, metrics)]
    files = {
        "model.safetensors": weights,
        "architecture.json": _json(architecture),
        "preprocessing.json": _json(preprocessing),
        "example_input.npz": _example(contents, network, preprocessing),
    }
    device = DeviceFiles(network, preprocessing, contents.dataset, contents.beta, contents.capture)
    program = cache(partial(export_program, network, preprocessing))
    writers: dict[str, Callable[[], dict[str, bytes]]] = {
        "c": device.c,  # first: compilers run while the others are written
        "int8": lambda: device.int8(max_drop, in_c="model.c" in files),
        "pt2": lambda: {"model.pt2": pt2_bytes(program())},
        "onnx": lambda: {"model.onnx": onnx_bytes(program()), "predict.py": PREDICT_SCRIPT.encode()},
    }
    for name in [name for name in writers if formats is None or name in formats]:
        try:
            files |= writers[name]()
        except InputError as error:
            if formats is not None:
                raise InputError(f"--format {name}: {error} Choose other formats.") from None
            checks.append(Check(name, f"left out: {error}", passed=None))
    asked = device.document(load_formats(network, preprocessing, files))
    metrics = metrics.model_copy(update={"device": asked})
    files["metrics.json"] = _json(metrics)
    files["MODEL_CARD.md"] = model_card(architecture, preprocessing, metrics, files).encode()
    return files, checks


def _json(document: Document) -> bytes:
    return (document.model_dump_json(indent=2) + "\n").encode()


def _example(contents: BundleContents, network: nn.Module, preprocessing: PreprocessingDocument) -> bytes:
    """The first samples of the test split, and what the network makes of them."""
    test = contents.dataset.test
    inputs = test.inputs[:EXAMPLES]
    outputs = run_in_batches("safetensors", standalone_runner(network, preprocessing), inputs, EXAMPLES)
    return example_bytes({"inputs": inputs, "labels": test.labels[:EXAMPLES], **outputs})


def _metrics(
    contents: BundleContents, network: nn.Module, preprocessing: PreprocessingDocument
) -> MetricsDocument:
    dataset = contents.dataset
    size = model_size(network, contents.architecture.input_shape)
    document: dict[str, Any] = {
        "splits": {
            name: measure_split(
                network,
                dataset.split(name),
                preprocessing.normalization,
                beta=contents.beta,
                measures=contents.measures,
                capture=contents.capture,
            )
            for name in ("validation", "test")
        },
        "configuration": contents.configuration,
        "seeds": list(contents.seeds),
        "reference": contents.reference,
        "size": SizeDocument(
            parameters=size.parameters, parameters_weights=size.parameters_weights, macs=size.macs
        ),
        "conventions": Conventions(
            beta=contents.beta,
            accuracy=contents.measures.accuracy,
            capture=contents.capture,
        ),
        "dataset": DatasetDocument(
            options=contents.dataset_options,
            digest=dataset.digest,
            train=len(dataset.train),
            validation=len(dataset.validation),
            test=len(dataset.test),
            warnings=dataset.warnings,
        ),
        "environment": environment(),
        "source": dict(contents.source),
    }
    return MetricsDocument.model_validate(document)


def _check_expected(contents: BundleContents, metrics: MetricsDocument) -> Check:
    """The network to export must give the numbers for which the search chose it."""
    worst = 0.0
    for split, numbers in contents.expected.items():
        measured = metrics.splits[split].model_dump()  # type: ignore[index]
        for name, expected in numbers.items():
            worst = max(worst, abs(measured[name] - expected))
            if not abs(measured[name] - expected) <= contents.tolerance:
                raise BundleMismatchError(
                    f"the exported network has {name} {measured[name]:.6f} on the {split} split, but the "
                    f"search reported {expected:.6f} (a difference of {contents.tolerance:.1e} is allowed): "
                    "the weights or the data are not those of the search."
                )
    if not any(contents.expected.values()):
        return Check("search", "not compared: no numbers of a search were given", passed=None)
    how = contents.measured
    rounding = f" (measured {how}; {contents.tolerance:.1e} is allowed for rounding)" if how else ""
    return Check("search", f"the reloaded network has the search's numbers within {worst:.1e}{rounding}")
