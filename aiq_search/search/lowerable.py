"""Check that the networks of a space can be measured as small machines compute them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiq_search.errors import InputError
from aiq_search.space.errors import SpaceError
from aiq_search.space.schema import SearchSpace

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_lowerable"]


def check_lowerable(
    space: SearchSpace, networks: Iterable[nn.Module], input_shape: tuple[int, ...], *, here: bool
) -> None:
    """Check that networks have a device format where a number asks for it, and that trials here have ONNX.

    Args:
        space: The space; it names accuracy in eight bits, bytes of activations or latency.
        networks: Some of its networks, built without memory.
        input_shape: Shape of one sample.
        here: Whether trials run on this machine.

    Raises:
        SpaceError: One of them has none.
    """
    from aiq_search.lowering.onnx_extra import require_onnx
    from aiq_search.lowering.planning import RawInputs, plan_network

    measured = (*space.objective.confirmed_measures, *space.objective.costs)
    channels = input_shape[0]
    raw = RawInputs("float32", input_shape, scale=[1] * channels, shift=[0] * channels)
    formats = [name for name in measured if name != "latency_ms"]  # that takes any network, if slowly
    for name in measured:
        try:
            if here and name != "activation_bytes":
                require_onnx()
            for network in networks if name in formats[:1] else ():
                plan_network(_with_memory(network), raw)
        except InputError as error:
            raise cannot_be_measured(space, name, error) from None


def cannot_be_measured(space: SearchSpace, name: str, error: InputError) -> SpaceError:
    """Why a number of small machines cannot be measured, and where the space names it."""
    constrained = name in {constraint.name for constraint in space.objective.number_constraints}
    key = ("objective", "constraints") if constrained else ("objective",)
    return space.error(key, f"{name} cannot be measured: {error}")


def _with_memory(network: nn.Module) -> nn.Module:
    """A network that was built without its memory, with zeros for weights."""
    import torch

    real = copy.deepcopy(network).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*real.parameters(), *real.buffers()):
            tensor.zero_()
    return real
