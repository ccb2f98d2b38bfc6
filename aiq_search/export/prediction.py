"""What an exported network makes of a user's own files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.errors import InputError
from aiq_search.export.bundle import Bundle
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.formats import run_in_batches, standalone_runner
from aiq_search.export.measurement import one_thread

__all__ = ["Prediction", "Predictions", "predict"]

IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Names under which an npz may hold the samples, the first one found; or it holds one array alone.
ARRAY_NAMES = ("inputs", "x", "x_test")


@dataclass(frozen=True)
class Prediction:
    """The answer for one sample.

    Attributes:
        name: The file, with the row where a file holds several.
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
    """The answers, and what the user should know of his inputs."""

    answers: tuple[Prediction, ...]
    notes: tuple[str, ...] = ()


def predict(bundle: Bundle, paths: Iterable[Path]) -> Predictions:
    """Classify the samples of some files.

    Args:
        bundle: The network.
        paths: Image files, folders of them, ``.npy`` or ``.npz`` files of raw inputs.

    Returns:
        An answer for each sample, in the order of the files.

    Raises:
        InputError: A file is missing, damaged, or does not fit the network.
    """
    raw = bundle.preprocessing
    names: list[str] = []
    arrays: list[NDArray[Any]] = []
    for path in paths:
        for file in _files(path):
            array = _read(file, raw)
            arrays.append(array)
            names += [str(file)] if len(array) == 1 else [f"{file}[{row}]" for row in range(len(array))]
    if not arrays:
        raise InputError("expected at least one image, folder of images, .npy or .npz, but got no sample.")
    inputs = np.concatenate(arrays)
    with one_thread():
        outputs = run_in_batches("model.safetensors", standalone_runner(bundle.model, raw), inputs)
    answers = [
        Prediction(
            name,
            raw.classes[int(row.argmax())],
            float(row.max()),
            dict(zip(raw.classes, row.tolist(), strict=True)),
        )
        for name, row in zip(names, outputs["probabilities"], strict=True)
    ]
    return Predictions(tuple(answers), tuple(_notes(inputs, raw)))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
        if not found:
            raise InputError(f"{path}: holds no image ({', '.join(sorted(IMAGES))}).")
        yield from found
    elif path.is_file():
        yield path
    else:
        raise InputError(f"{path}: no such file or folder.")


def _read(path: Path, raw: PreprocessingDocument) -> NDArray[Any]:
    """The samples of one file, in the type and shape that the network takes."""
    if path.suffix.lower() in (".npy", ".npz"):
        return _fitting(_read_numpy(path), raw, path)
    if path.suffix.lower() in IMAGES:
        return _read_image(path, raw)
    raise InputError(f"{path}: expected an image ({', '.join(sorted(IMAGES))}), .npy or .npz.")


def _read_numpy(path: Path) -> NDArray[Any]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            name = next((name for name in ARRAY_NAMES if name in loaded.files), None)
            if name is None and len(loaded.files) == 1:
                name = loaded.files[0]
            if name is None:
                raise InputError(
                    f"{path}: expected an array called inputs, but it has {sorted(loaded.files)}."
                )
            return np.asarray(loaded[name])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable file of plain arrays ({error}).") from None


def _fitting(array: NDArray[Any], raw: PreprocessingDocument, path: Path) -> NDArray[Any]:
    """An array as (N, *input_shape), a single sample included, without a silent change of its values."""
    if array.shape == raw.input_shape:
        array = array[None]
    if len(raw.input_shape) == 3 and raw.input_shape[0] == 1 and array.shape[1:] == raw.input_shape[1:]:
        array = array[:, None]  # N x H x W, as most data sets of grey images are stored
    if array.shape[1:] != raw.input_shape or array.ndim != len(raw.input_shape) + 1 or not len(array):
        expected = " x ".join(["N", *map(str, raw.input_shape)])
        raise InputError(f"{path}: expected an array of {expected}, but got {array.shape}.")
    if str(array.dtype) == raw.input_dtype:
        fitting = array
    elif raw.input_dtype == "float32" and array.dtype.kind in "fiub":
        fitting = array.astype(np.float32)
    else:
        raise InputError(
            f"{path}: expected {raw.input_dtype} as in training (raw values from {raw.training_range[0]:g} "
            f"to {raw.training_range[1]:g}, not normalised), but got {array.dtype}; convert it first."
        )
    if not np.isfinite(fitting).all():
        raise InputError(f"{path}: holds NaN or infinity; fill or drop those samples.")
    return fitting


def _read_image(path: Path, raw: PreprocessingDocument) -> NDArray[Any]:
    from PIL import Image, UnidentifiedImageError

    modes = {1: "L", 3: "RGB"}
    if len(raw.input_shape) != 3 or raw.input_shape[0] not in modes:
        raise InputError(f"{path}: this network takes {raw.input_shape}, no images; give an .npy or .npz.")
    channels, height, width = raw.input_shape
    try:
        with Image.open(path) as image:  # reads the header alone
            if image.size != (width, height):
                raise InputError(
                    f"{path}: expected {width}x{height} pixels as in training, but it has "
                    f"{image.width}x{image.height}; scale it first."
                )
            pixels = np.asarray(image.convert(modes[channels]))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error}).") from None
    planes = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes[None].astype(raw.input_dtype))


def _notes(inputs: NDArray[Any], raw: PreprocessingDocument) -> Iterator[str]:
    low, high = raw.training_range
    least, most = float(inputs.min()), float(inputs.max())
    if least < low or most > high:
        yield (
            f"the inputs go from {least:g} to {most:g}, but in training they went from {low:g} to {high:g}: "
            "the answers may mean nothing. Bring them to the scale of the training data."
        )
