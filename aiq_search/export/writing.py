"""From a network and its numbers to a bundle on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from aiq_search.export.contents import BundleContents
from aiq_search.export.documents import (
    ArchitectureDocument,
    Conventions,
    DatasetDocument,
    Document,
    MetricsDocument,
    PreprocessingDocument,
    SizeDocument,
)
from aiq_search.export.errors import BundleError
from aiq_search.export.files import CHECKSUMS, checksums, new_directory
from aiq_search.export.measurement import environment, measure_split
from aiq_search.export.verification import Verification, verify_bundle
from aiq_search.export.weights import load_network, weights_bytes
from aiq_search.models import model_size

__all__ = ["write_bundle"]

# The search may have run on another machine or a GPU; here the numbers come from this CPU.
TOLERANCE = 1e-4


def write_bundle(directory: Path, contents: BundleContents, *, force: bool = False) -> Verification:
    """Write a bundle and verify it.

    The directory appears, whole and verified, or not at all.

    Args:
        directory: Where to; must not exist.
        contents: The network and its numbers.
        force: Replace a bundle that is there.

    Returns:
        What was verified.

    Raises:
        InputError: Something is at ``directory`` already.
        BundleError: What was written is not what the search found.
    """
    with new_directory(directory, force=force) as fresh:
        files = _files(contents)
        files[CHECKSUMS] = checksums(files)
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        return verify_bundle(fresh, dataset=contents.dataset, allow_code=True)


def _files(contents: BundleContents) -> dict[str, bytes]:
    weights = weights_bytes(contents.weights)
    model = load_network(contents.architecture, weights)
    metrics = _metrics(contents, model)
    _check_expected(contents, metrics)
    return {
        "model.safetensors": weights,
        "architecture.json": _json(ArchitectureDocument.of(contents.architecture)),
        "preprocessing.json": _json(_preprocessing(contents)),
        "metrics.json": _json(metrics),
    }


def _json(document: Document) -> bytes:
    return (document.model_dump_json(indent=2) + "\n").encode()


def _preprocessing(contents: BundleContents) -> PreprocessingDocument:
    dataset = contents.dataset
    return PreprocessingDocument.model_validate(
        {
            "input_dtype": str(dataset.train.inputs.dtype),
            "input_shape": dataset.input_shape,
            "scale": dataset.normalization.scale,
            "shift": dataset.normalization.shift,
            "classes": dataset.classes,
        }
    )


def _metrics(contents: BundleContents, model: nn.Module) -> MetricsDocument:
    dataset = contents.dataset
    size = model_size(model, contents.architecture.input_shape)
    document: dict[str, Any] = {
        "splits": {
            split: measure_split(model, dataset, split, beta=contents.beta)
            for split in ("validation", "test")
        },
        "configuration": contents.configuration,
        "seeds": list(contents.seeds),
        "size": SizeDocument(
            parameters=size.parameters, parameters_weights=size.parameters_weights, macs=size.macs
        ),
        "conventions": Conventions(beta=contents.beta, capture=contents.capture),  # type: ignore[arg-type]
        "dataset": DatasetDocument(
            options=contents.dataset_options,
            digest=dataset.digest,
            train=len(dataset.train),
            validation=len(dataset.validation),
            test=len(dataset.test),
        ),
        "environment": environment(),
        "source": dict(contents.source),
    }
    return MetricsDocument.model_validate(document)


def _check_expected(contents: BundleContents, metrics: MetricsDocument) -> None:
    """The network to export must give the numbers for which the search chose it."""
    measured = metrics.splits["validation"].model_dump()
    for name, expected in contents.expected.items():
        if not abs(measured[name] - expected) <= TOLERANCE:
            raise BundleError(
                f"the exported network has {name} {measured[name]:.6f} on the validation split, but the "
                f"search reported {expected:.6f}: the weights or the data are not those of the search."
            )
