"""Arrays in memory-mapped files: what is in use is in memory once, for all processes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.errors import InputError

__all__ = ["cached_array", "file_backed", "parts_of", "sent_as_file"]

_CHUNK = 2**24


def cached_array(path: Path, make: Callable[[NDArray[Any]], None], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of bytes that is made once and read from a file afterwards.

    The file appears whole or not at all, so processes that make it at once do no harm. One that does not have
    the checksum noted beside it is made again.

    Args:
        path: The ``.npy``; its name has to say what the array depends on.
        make: Fills an array of the shape.
        shape: Of the array, uint8.

    Returns:
        The array, read-only and mapped.

    Raises:
        InputError: The folder cannot be written, or the disk is full.
    """
    note = path.with_suffix(".json")
    array = _checked(path, note, shape)
    if array is not None:
        return array
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
            fresh = Path(folder) / path.name
            mapped = np.lib.format.open_memmap(fresh, "w+", np.uint8, shape)
            make(mapped)
            mapped.flush()
            del mapped
            (fresh.with_suffix(".json")).write_text(json.dumps({"sha256": _sha256(fresh)}))
            fresh.replace(path)
            fresh.with_suffix(".json").replace(note)
        return _open(path)
    except OSError as error:
        raise InputError(
            f"{path.parent}: the prepared data cannot be kept there ({error.strerror}); name a folder with "
            "space by --data-dir or AIQ_DATA_DIR."
        ) from None


def _checked(path: Path, note: Path, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """The array of a file that is as it was written; None where there is no such file."""
    try:
        if json.loads(note.read_text())["sha256"] != _sha256(path):
            return None
        array = _open(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _open(path: Path) -> NDArray[Any]:
    return np.asarray(np.lib.format.open_memmap(path, "r"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_backed(folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to fill that may be larger than the memory; its file vanishes with it.

    Raises:
        InputError: The folder cannot be written, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            size = int(np.prod(shape)) * dtype.itemsize
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, not a crash later
            return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
    except OSError as error:
        raise InputError(
            f"{folder}: the data cannot be kept there ({error.strerror}); name a folder with space by "
            "--data-dir or AIQ_DATA_DIR."
        ) from None


class _InFile(np.ndarray):
    """A part of a mapped file that is pickled as its place in the file, for processes of the same machine."""

    def __reduce__(self) -> tuple[Any, ...]:
        file = _file_of(self)
        if file is None:
            raise TypeError("not an array in a file")
        begin = file.offset + self.__array_interface__["data"][0] - file.__array_interface__["data"][0]
        return _map, (str(file.filename), str(self.dtype), self.shape, begin)


def _map(path: str, dtype: str, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    return np.asarray(np.memmap(path, dtype, "r", offset, shape))


def _file_of(array: NDArray[Any]) -> np.memmap[Any, Any] | None:
    """The mapped file with a name that an array lies in."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base if base is not None and base.filename is not None else None


def sent_as_file(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself; where it lies in a file, pickling it sends the place in the file, not the bytes.

    Only for processes that see the same files.

    Args:
        array: Any.
    """
    whole = array.flags.c_contiguous and len(array) and _file_of(array) is not None
    return array.view(_InFile) if whole else array


def parts_of(array: NDArray[Any], lengths: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """Consecutive parts of an array, by name; no copies."""
    parts, begin = {}, 0
    for name, length in lengths.items():
        parts[name] = array[begin : begin + length]
        begin += length
    return parts
