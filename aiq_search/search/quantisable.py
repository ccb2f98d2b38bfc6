"""Check that the networks of a space can be measured in eight bits."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiq_search.errors import InputError
from aiq_search.space.schema import SearchSpace
from aiq_search.training.measures import INT8_ACCURACY

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_quantisable"]


def check_quantisable(
    space: SearchSpace, networks: Iterable[nn.Module], input_shape: tuple[int, ...], *, here: bool
) -> None:
    """Check that networks can be quantised, and, if trials run here, that what it takes is installed.

    Args:
        space: The space; it has a constraint on the accuracy in eight bits.
        networks: Some of its networks, built without memory.
        input_shape: Shape of one sample.
        here: Whether trials run on this machine.

    Raises:
        SpaceError: One of them cannot be quantised.
    """
    from aiq_search.lowering.onnx_extra import require_onnx
    from aiq_search.lowering.planning import RawInputs, plan_network

    channels = input_shape[0]
    raw = RawInputs("float32", input_shape, scale=[1] * channels, shift=[0] * channels)
    try:
        if here:
            require_onnx()
        for network in networks:
            plan_network(_with_memory(network), raw)
    except InputError as error:
        message = f"{INT8_ACCURACY} cannot be measured: {error}"
        raise space.error(("objective", "constraints"), message) from None


def _with_memory(network: nn.Module) -> nn.Module:
    """A network that was built without its memory, with zeros for weights."""
    import torch

    real = copy.deepcopy(network).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*real.parameters(), *real.buffers()):
            tensor.zero_()
    return real
