"""A user's own files as samples for an exported network: pictures, arrays and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.arrays import NPY_MAGIC, NPZ_MAGIC, ArrayFile, read_array
from aiq_search.datasets import TableEncoding
from aiq_search.datasets.frame import read_frame
from aiq_search.datasets.pictures import PICTURES, picture_format, read_picture, without_warnings
from aiq_search.errors import InputError
from aiq_search.export.documents import PreprocessingDocument

__all__ = ["Samples", "input_files", "read_samples"]

# Names that an npz may give its samples, in order of preference; an array that is alone may have any name.
ARRAY_NAMES = ("inputs", "x", "x_test")
_READ = "a picture (PNG, JPEG, BMP, GIF, WebP, PGM or PPM), .npy or .npz"


@dataclass(frozen=True)
class Samples:
    """What a file holds.

    Attributes:
        inputs: (N, …).
        names: Of each sample: the file, and the place in it if it has several.
        notes: What is unlike the training data, a sentence each.
    """

    inputs: NDArray[Any]
    names: list[str]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def numbered(cls, inputs: NDArray[Any], path: Path) -> Samples:
        """Samples named by their index in a file."""
        names = [str(path)] if len(inputs) == 1 else [f"{path}[{row}]" for row in range(len(inputs))]
        return cls(inputs, names)


def input_files(path: Path) -> Iterator[Path]:
    """The file, or the pictures of a folder in the order of their names.

    Raises:
        InputError: There is no such file, or no picture in the folder.
    """
    if path.is_dir():
        pictures = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        if not pictures:
            raise InputError(f"{path}: has no picture ({', '.join(sorted(PICTURES))}).")
        yield from pictures
    elif path.is_file():
        yield path
    else:
        raise InputError(f"{path}: no such file or folder.")


def read_samples(path: Path, raw: PreprocessingDocument) -> Samples:
    """The samples of one file, in the type and shape that a network takes.

    The first bytes decide how a file is read, not its name. For a network of a table, what is neither
    ``.npy`` nor ``.npz`` is read as a table.

    Args:
        path: A picture, an ``.npy``, an ``.npz``, or a table.
        raw: What the network takes.

    Returns:
        The samples, their names, and what the user should know about them.

    Raises:
        InputError: The file is damaged, of another format, or does not fit the network.
    """
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    if start.startswith((NPY_MAGIC, NPZ_MAGIC)):
        array = read_array(path) if start.startswith(NPY_MAGIC) else _read_archive(path)
        return Samples.numbered(_fitting(array, raw, path), path)
    if raw.table is not None:
        return _read_table(path, raw.table)
    if picture_format(start) is None:
        raise InputError(f"{path}: expected {_READ}, but it begins with {start[:8]!r}.")
    return Samples.numbered(_read_picture(path, raw), path)


def _read_table(path: Path, encoding: TableEncoding) -> Samples:
    """The rows of a table as the network's features; columns that it does not take are passed over."""
    columns = encoding.columns_of(read_frame(path), path)
    features = encoding.encode(columns, path)
    names = [f"{path} row {row + 1}" for row in range(len(features))]
    return Samples(features, names, [f"{path}: {note}" for note in encoding.notes(columns)])


def _read_archive(path: Path) -> NDArray[Any]:
    with ArrayFile(path) as file:
        name = next((name for name in ARRAY_NAMES if name in file.names), None)
        if name is None and len(file.names) == 1:
            name = file.names[0]
        if name is None:
            raise InputError(
                f"{path}: expected an array called inputs, but it has {sorted(file.names)[:10]}."
            )
        return file.read([name])[name]


def _fitting(array: NDArray[Any], raw: PreprocessingDocument, path: Path) -> NDArray[Any]:
    """An array as (N, *input_shape), a single sample included, without a silent change of its values."""
    shape = raw.input_shape
    if array.shape == shape:
        array = array[None]
    if len(shape) == 3 and shape[0] == 1 and array.shape[1:] == shape[1:]:
        array = array[:, None]  # N x H x W, as most data sets of grey pictures are stored
    if array.shape[1:] != shape or not len(array):
        expected = " x ".join(["N", *map(str, shape)])
        last = len(shape) == 3 and array.shape[1:] == (*shape[1:], shape[0])
        hint = "; the channels are last: transpose(0, 3, 1, 2)" if last else ""
        raise InputError(f"{path}: expected an array of {expected}, but got {array.shape}{hint}.")
    if str(array.dtype) != raw.input_dtype:
        if raw.input_dtype != "float32" or array.dtype.kind not in "fiub":
            low, high = raw.training_range
            raise InputError(
                f"{path}: expected {raw.input_dtype} as in training (raw values from {low:g} to {high:g}, "
                f"not normalised), but got {array.dtype}; convert it first."
            )
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(
            f"{path}: holds NaN, infinity, or numbers beyond float32; fill or drop those samples."
        )
    return array


def _read_picture(path: Path, raw: PreprocessingDocument) -> NDArray[Any]:
    """One picture as (1, C, H, W)."""
    if len(raw.input_shape) != 3 or raw.input_shape[0] not in (1, 3):
        raise InputError(
            f"{path}: this network takes samples of shape {raw.input_shape}, not pictures; give an .npy or "
            ".npz."
        )
    channels, height, width = raw.input_shape
    with without_warnings():
        picture = read_picture(path, channels, (height, width), resize=raw.resize)
    return picture[None].astype(raw.input_dtype)
