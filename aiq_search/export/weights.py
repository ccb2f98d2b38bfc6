"""``model.safetensors``: weights that are checked against the architecture before memory is spent on them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from aiq_search.errors import InputError
from aiq_search.export.errors import BundleError
from aiq_search.models import MODELS, Architecture

__all__ = ["load_network", "weights_bytes"]

NAME = "model.safetensors"
_LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8
}  # fmt: skip
_DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int32: "I32", torch.float32: "F32", torch.int64: "I64",
    torch.float64: "F64",
}  # fmt: skip


def weights_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """A network's state dict as the bytes of a safetensors file."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()})


def load_network(architecture: Architecture, content: bytes) -> nn.Module:
    """Build a network and give it the weights of a safetensors file.

    The architecture is first built on torch's meta device, which takes no memory, and compared with the
    header of the file, which cannot declare more than the file holds.

    Args:
        architecture: The network; the caller has decided that its name may be imported.
        content: The bytes of the file.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        BundleError: The file is damaged, or not this network's.
    """
    declared = _check_header(content)
    expected = _expected(architecture)
    for name in sorted(expected.keys() | declared.keys()):
        if expected.get(name) != declared.get(name):
            raise BundleError(
                f"{NAME}: refused: {name}: the architecture has {_shown(expected.get(name))}, "
                f"the file {_shown(declared.get(name))}."
            )
    try:
        weights = load(content)
    except SafetensorError as error:
        raise BundleError(f"{NAME}: refused: not a sound safetensors file ({error}).") from None
    model = architecture.build()
    model.load_state_dict(weights)
    return model.eval()


def _shown(entry: tuple[str, tuple[int, ...]] | None) -> str:
    return "nothing of that name" if entry is None else f"{entry[0]} {list(entry[1])}"


def _expected(architecture: Architecture) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each weight, from a network without memory.

    A user's own function may not bear that, and was allowed to do more than to take memory.
    """
    own = architecture.name in MODELS
    try:
        with torch.device("meta") if own else contextlib.nullcontext():
            state = architecture.build().state_dict()
    except InputError as error:
        raise BundleError(f"architecture.json: refused: {error}") from None
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise BundleError(f"architecture.json: refused: it builds no network ({error}).") from None
    return {name: (_DTYPES.get(t.dtype, str(t.dtype)), tuple(t.shape)) for name, t in state.items()}


def _check_header(content: bytes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor as declared; what they declare is exactly what follows."""
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(_LARGEST_HEADER, len(content) - 8):
        raise BundleError(
            f"{NAME}: refused: not a safetensors file: it declares a header of {length:,} bytes "
            f"in a file of {len(content):,}."
        )
    try:
        header: dict[str, Any] = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        entries = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
        offsets = {name: tuple(entry["data_offsets"]) for name, entry in header.items()}
        numbers = [n for name in header for n in (*entries[name][1], *offsets[name])]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a size that is no whole number")
        sizes = {name: _ITEM_BYTES[dtype] * prod(shape) for name, (dtype, shape) in entries.items()}
        spans = {name: end - start for name, (start, end) in offsets.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(f"{NAME}: refused: not a safetensors file: its header is damaged.") from None
    for name, size in sizes.items():
        if size != spans[name]:
            raise BundleError(
                f"{NAME}: refused: {name} declares {_shown(entries[name])}, {size:,} bytes, "
                f"but has {spans[name]:,}."
            )
    if sum(sizes.values()) != len(content) - 8 - length:
        raise BundleError(
            f"{NAME}: refused: its header declares {sum(sizes.values()):,} bytes of weights, "
            f"but {len(content) - 8 - length:,} follow."
        )
    return entries
