"""How large a network is: parameters in two conventions, and multiply-accumulates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import nn

__all__ = ["ModelSize", "layer_outputs", "model_size"]

_Result = TypeVar("_Result")

# Bytes of weights below which a copy and a pass of one sample cost nothing worth sparing.
_SMALL = 100_000_000

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class ModelSize:
    """Size of a network.

    Attributes:
        parameters: All trainable numbers.
        parameters_weights: Weights of convolutions and linear layers only, as the paper counts.
        macs: Multiply-accumulates of one forward pass of one sample, in matrix products and
            convolutions.
    """

    parameters: int
    parameters_weights: int
    macs: int


def model_size(model: nn.Module, input_shape: tuple[int, ...]) -> ModelSize:
    """Count a network's parameters and multiply-accumulates.

    The forward pass runs on a copy, on the meta device where it can: nothing is computed and the model
    is left as it was.

    Args:
        model: The network.
        input_shape: Shape of one sample.

    Returns:
        Its size.

    Example:
        >>> model_size(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,))
        ModelSize(parameters=23, parameters_weights=18, macs=18)
    """
    weights = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, _LAYERS)}
    return ModelSize(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters_weights=sum(weights.values()),
        macs=_on_a_ghost(model, input_shape, _macs),
    )


def layer_outputs(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Neurons of each linear layer and convolution, and at how many places a sample shows their state.

    A linear layer behind a flattening has one place, a convolution one a position, a linear layer of a
    sequence one a token. A layer that runs several times is counted as in its last run. One sample goes
    through a copy of the network: on the CPU if its weights are there, since torch takes a second and 80 MB
    for its first pass on the meta device.

    Args:
        model: The network; it is left as it was.
        input_shape: Shape of one sample.

    Returns:
        By name: neurons, places.

    Example:
        >>> layer_outputs(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2)), (1, 4, 4))
        {'0': (4, 4), '2': (2, 1)}
    """

    def run(ghost: nn.Module, input_shape: tuple[int, ...], device: str) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for name, module in ghost.named_modules():
            if isinstance(module, _LAYERS):
                module.register_forward_hook(partial(_note_output, found, name))
        ghost.eval()
        with torch.no_grad():
            ghost(torch.zeros(1, *input_shape, device=device))
        return found

    on_cpu = all(tensor.device.type == "cpu" for tensor in model.state_dict().values())
    if on_cpu and sum(tensor.nbytes for tensor in model.state_dict().values()) < _SMALL:
        return run(copy.deepcopy(model), input_shape, "cpu")
    return _on_a_ghost(model, input_shape, run)


def _note_output(
    found: dict[str, tuple[int, int]], name: str, module: nn.Module, inputs: object, output: torch.Tensor
) -> None:
    neurons = output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1]
    found[name] = (neurons, output.numel() // neurons)


def _on_a_ghost(
    model: nn.Module, input_shape: tuple[int, ...], run: Callable[[nn.Module, tuple[int, ...], str], _Result]
) -> _Result:
    """Run a copy of a model where nothing is computed, or on the CPU if it cannot be run there."""
    try:
        return run(copy.deepcopy(model).to("meta"), input_shape, "meta")
    except Exception:  # a user's forward that needs numbers, such as one with .item()
        ghost = copy.deepcopy(model)
        empty = any(t.is_meta for t in ghost.state_dict().values())
        return run(ghost.to_empty(device="cpu") if empty else ghost.to("cpu"), input_shape, "cpu")


def _macs(ghost: nn.Module, input_shape: tuple[int, ...], device: str) -> int:
    from torch.utils.flop_counter import FlopCounterMode  # 70 MB, which those who only look at a model spare

    ghost.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(torch.zeros(1, *input_shape, device=device))
    return int(counter.get_total_flops()) // 2  # torch counts a multiply and an add as two
