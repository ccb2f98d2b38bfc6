"""An open bundle: the network, its preprocessing and its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from aiq_search.datasets import DatasetOptions
from aiq_search.errors import InputError
from aiq_search.export.card import PREDICT_SCRIPT
from aiq_search.export.documents import (
    ArchitectureDocument,
    MetricsDocument,
    PreprocessingDocument,
    parse_document,
)
from aiq_search.export.errors import BundleError
from aiq_search.export.files import read_files
from aiq_search.export.weights import load_network
from aiq_search.models import MODELS, Architecture
from aiq_search.user_code import NO_CODE, CodePolicy

__all__ = ["Bundle", "load_bundle"]


@dataclass(frozen=True)
class Bundle:
    """An exported network with everything that is known about it.

    Attributes:
        directory: Where it is.
        architecture: Name, arguments and shapes of the network.
        model: The network, on the CPU, in evaluation mode; takes normalised inputs.
        preprocessing: Type and shape of a raw input, its normalisation, the class names.
        metrics: Its numbers, what they mean and where they come from.
        files: The checked bytes of every file, by name.
    """

    directory: Path
    architecture: Architecture
    model: nn.Module = field(repr=False)
    preprocessing: PreprocessingDocument = field(repr=False)
    metrics: MetricsDocument = field(repr=False)
    files: dict[str, bytes] = field(repr=False)

    @property
    def dataset(self) -> DatasetOptions:
        """How to load the data that the network was trained and measured on."""
        return self.metrics.dataset.options


def load_bundle(directory: Path | str, code: CodePolicy = NO_CODE) -> Bundle:
    """Open a bundle.

    Nothing in it can run code: every file is checked before it is used. A network named as
    ``package.module:function`` is only imported if the caller allows it.

    Args:
        directory: What ``aiq export`` wrote.
        code: Which functions the architecture may name; none by default.

    Returns:
        The bundle.

    Raises:
        InputError: There is no such directory, or it names code and that is not allowed.
        BundleError: The bundle is damaged or unsafe.
    """
    directory = Path(directory)
    files = read_files(directory)
    if files.get("predict.py", PREDICT_SCRIPT.encode()) != PREDICT_SCRIPT.encode():
        raise BundleError(
            "predict.py: refused: it is not the script that aiq-search puts into a bundle, and may do "
            "anything; remove it together with its line in SHA256SUMS."
        )
    document = parse_document(ArchitectureDocument, "architecture.json", files["architecture.json"])
    preprocessing = parse_document(PreprocessingDocument, "preprocessing.json", files["preprocessing.json"])
    metrics = parse_document(MetricsDocument, "metrics.json", files["metrics.json"])
    architecture = document.architecture(code)
    if architecture.input_shape != preprocessing.input_shape:
        raise BundleError("preprocessing.json: refused: its input_shape is not that of architecture.json.")
    if architecture.classes != len(preprocessing.classes):
        raise BundleError(
            "preprocessing.json: refused: it lists a different number of classes than architecture.json."
        )
    unfit = {"auroc": architecture.classes != 2, "top_5": architecture.classes <= 5}
    for name in metrics.splits["validation"].measures:
        if unfit.get(name):
            raise BundleError(f"metrics.json: refused: {name} for {architecture.classes} classes.")
    if architecture.name not in MODELS and not code.allows(architecture.name):
        raise InputError(
            f"architecture.json: refused: the network is code named {architecture.name!r}, not a model of "
            f"this package. If you trust that code, run from the folder that has it, or "
            "allow its package with --allow-code."
        )
    model = load_network(architecture, files["model.safetensors"])
    return Bundle(directory, architecture, model, preprocessing, metrics, files)
