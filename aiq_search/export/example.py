"""``example_input.npz``: some raw inputs, and what the network makes of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.export.archive import read_archive
from aiq_search.export.errors import BundleError

__all__ = ["ARRAYS", "example_bytes", "read_example", "read_npz"]

NAME = "example_input.npz"
ARRAYS = ("inputs", "labels", "logits", "probabilities")


def example_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as the bytes of an uncompressed npz."""
    buffer = io.BytesIO()
    plain: dict[str, Any] = {name: np.ascontiguousarray(arrays[name]) for name in ARRAYS}
    np.savez(buffer, **plain)
    return buffer.getvalue()


def read_example(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of the example.

    Raises:
        BundleError: The file is damaged or lacks an array.
    """
    arrays = read_npz(NAME, content)
    if sorted(arrays) != sorted(ARRAYS):
        raise BundleError(
            f"{NAME}: refused: expected arrays {', '.join(ARRAYS)}, but it has {sorted(arrays)}."
        )
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise BundleError(f"{NAME}: refused: its arrays must have one row a sample, and at least one.")
    return arrays


def read_npz(name: str, content: bytes) -> dict[str, NDArray[Any]]:
    """Read an uncompressed npz, whose arrays are as large as they declare and hold no objects.

    Args:
        name: Name of the file, for the message.
        content: Its bytes.

    Returns:
        The arrays, by name.

    Raises:
        BundleError: The file is no such npz.
    """
    return {
        member.removesuffix(".npy"): _array(f"{name}: {member}", data)
        for member, data in read_archive(name, content).items()
    }


def _array(name: str, data: bytes) -> NDArray[Any]:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(file)
    except (ValueError, KeyError, SyntaxError) as error:
        raise BundleError(f"{name}: refused: not a numpy array ({error}).") from None
    if dtype.hasobject or fortran:
        raise BundleError(
            f"{name}: refused: it holds {dtype}, which may be pickled objects or in another order."
        )
    given = len(data) - file.tell()
    declared = dtype.itemsize * int(np.prod(shape, dtype=object))
    if declared != given:
        raise BundleError(
            f"{name}: refused: it declares shape {shape}, {declared:,} bytes, but has {given:,}."
        )
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape)
