"""Classifying a user's own files with an exported network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.errors import InputError
from aiq_search.export.bundle import Bundle
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.inputs import input_files, read_samples
from aiq_search.export.measurement import one_thread
from aiq_search.export.running import batch_size, run_in_batches, standalone_runner

__all__ = ["Prediction", "Predictions", "predict"]


@dataclass(frozen=True)
class Prediction:
    """The answer for one sample.

    Attributes:
        name: The file, with the row if a file has several.
        label: Name of the likeliest class.
        probability: Its probability.
        probabilities: Of each class, by name.
    """

    name: str
    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Predictions:
    """The answers, and what the user should know about the inputs."""

    answers: tuple[Prediction, ...]
    notes: tuple[str, ...] = ()


def predict(bundle: Bundle, paths: Iterable[Path | str]) -> Predictions:
    """Classify the samples of some files.

    Args:
        bundle: The network.
        paths: Pictures, folders of them, ``.npy`` or ``.npz`` files of raw inputs, or tables.

    Returns:
        An answer for each sample, in the order of the files.

    Raises:
        InputError: A file is missing, damaged, or does not fit the network.
    """
    raw = bundle.preprocessing
    names: list[str] = []
    arrays: list[NDArray[Any]] = []
    notes: list[str] = []
    for path in paths:
        for file in input_files(Path(path)):
            samples = read_samples(file, raw)
            arrays.append(samples.inputs)
            names += samples.names
            notes += samples.notes
    if not arrays:
        raise InputError(
            "expected at least one picture, folder of pictures, table, .npy or .npz, but got no sample."
        )
    inputs = np.concatenate(arrays)
    with one_thread():
        run = standalone_runner(bundle.model, raw)
        outputs = run_in_batches("model.safetensors", run, inputs, batch_size(bundle))
    answers = [
        Prediction(
            name,
            raw.classes[int(row.argmax())],
            float(row.max()),
            dict(zip(raw.classes, row.tolist(), strict=True)),
        )
        for name, row in zip(names, outputs["probabilities"], strict=True)
    ]
    return Predictions(tuple(answers), (*notes, *_notes(inputs, raw)))


def _notes(inputs: NDArray[Any], raw: PreprocessingDocument) -> Iterator[str]:
    if raw.table is not None:
        return  # a range of all columns together says nothing
    low, high = raw.training_range
    least, most = float(inputs.min()), float(inputs.max())
    if least < low or most > high:
        yield (
            f"the inputs range from {least:g} to {most:g}, but the training data from {low:g} to {high:g}: "
            "the answers may be meaningless. Scale the inputs like the training data."
        )
