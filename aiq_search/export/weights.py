"""``model.safetensors``: weights that are compared with the architecture before a network is built."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from aiq_search.errors import InputError, first_line
from aiq_search.export.errors import BundleError
from aiq_search.models import MODELS, Architecture

__all__ = ["load_network", "weights_bytes"]

NAME = "model.safetensors"
# Bytes of a header: enough for tens of thousands of tensors, and read within a second.
_LONGEST_HEADER = 2**22
_SHOWN = 8


def weights_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """A network's state dict as the bytes of a safetensors file."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()})


def load_network(architecture: Architecture, content: bytes) -> nn.Module:
    """Build a network and give it the weights of a safetensors file.

    The weights take as much memory as their file: safetensors refuses a header that declares anything but the
    bytes that follow it. They are compared with the architecture as torch's meta device builds it, without
    memory.

    Args:
        architecture: The network; the caller has decided that its name may be imported.
        content: The bytes of the file.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        BundleError: The file is damaged, or not this network's.
    """
    weights = _load(content)
    expected = _expected(architecture)
    for name in sorted(expected.keys() | weights.keys()):
        wanted, given = expected.get(name), weights.get(name)
        if wanted is None or given is None or (wanted.dtype, wanted.shape) != (given.dtype, given.shape):
            raise BundleError(
                f"{NAME}: refused: {name}: the architecture has {_shown(wanted)}, the file {_shown(given)}."
            )
    model = architecture.build()
    model.load_state_dict(weights)
    return model.eval()


def _shown(tensor: Tensor | None) -> str:
    if tensor is None:
        return "nothing of that name"
    lengths = [str(length) for length in tensor.shape[:_SHOWN]] + ["…"] * (tensor.ndim > _SHOWN)
    return f"{tensor.dtype} ({', '.join(lengths)})".removeprefix("torch.")


def _expected(architecture: Architecture) -> dict[str, Tensor]:
    """The weights of the architecture as tensors without memory.

    A user's own function may not bear that, and was allowed to do more than to take memory.
    """
    own = architecture.name in MODELS
    try:
        with torch.device("meta") if own else contextlib.nullcontext():
            return dict(architecture.build().state_dict())
    except InputError as error:
        raise BundleError(f"architecture.json: refused: {error}") from None
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = first_line(error)
        raise BundleError(f"architecture.json: refused: it builds no network ({reason}).") from None


def _load(content: bytes) -> dict[str, Tensor]:
    length = int.from_bytes(content[:8], "little")
    if length > _LONGEST_HEADER:
        raise BundleError(
            f"{NAME}: refused: not a safetensors file: it declares a header of {length:,} bytes, but at most "
            f"{_LONGEST_HEADER:,} are read."
        )
    try:
        return load(content)
    except Exception as error:  # SafetensorError, and torch's own for a type or size that it does not have
        raise BundleError(f"{NAME}: refused: not a sound safetensors file ({first_line(error)}).") from None
