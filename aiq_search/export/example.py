"""``example_input.npz``: some raw inputs, and what the network makes of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.arrays import array_from_bytes
from aiq_search.export.archive import read_archive
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.errors import BundleError

__all__ = ["ARRAYS", "example_bytes", "read_example"]

NAME = "example_input.npz"
ARRAYS = ("inputs", "labels", "logits", "probabilities")


def example_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as the bytes of an uncompressed npz."""
    buffer = io.BytesIO()
    plain: dict[str, Any] = {name: np.ascontiguousarray(arrays[name]) for name in ARRAYS}
    np.savez(buffer, **plain)
    return buffer.getvalue()


def read_example(content: bytes, raw: PreprocessingDocument) -> dict[str, NDArray[Any]]:
    """The arrays of the example.

    Args:
        content: The bytes of the file.
        raw: What the network takes and answers.

    Raises:
        BundleError: The file is damaged, lacks an array, or one has another type or shape.
    """
    arrays = {
        member.removesuffix(".npy"): _array(member, data)
        for member, data in read_archive(NAME, content).items()
    }
    if sorted(arrays) != sorted(ARRAYS):
        raise BundleError(
            f"{NAME}: refused: expected arrays {', '.join(ARRAYS)}, but it has {sorted(arrays)}."
        )
    samples = len(arrays["labels"]) if arrays["labels"].ndim else 0
    kinds = {
        "inputs": (raw.input_dtype, (samples, *raw.input_shape)),
        "labels": ("int64", (samples,)),
        "logits": ("float32", (samples, len(raw.classes))),
        "probabilities": ("float32", (samples, len(raw.classes))),
    }
    for name, (dtype, shape) in kinds.items():
        array = arrays[name]
        if str(array.dtype) != dtype or array.shape != shape or not samples:
            raise BundleError(
                f"{NAME}: refused: its {name} are {array.dtype} {array.shape}, but this network has {dtype} "
                f"(N, {', '.join(map(str, shape[1:]))})."
            )
    return arrays


def _array(member: str, data: bytes) -> NDArray[Any]:
    try:
        return array_from_bytes(data)
    except ValueError as error:
        raise BundleError(f"{NAME}: {member}: refused: {error}.") from None
