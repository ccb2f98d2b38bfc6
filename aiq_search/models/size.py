"""How large a network is: parameters in two conventions, and multiply-accumulates."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["ModelSize", "model_size"]


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
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    weights = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, layers)}
    try:
        macs = _macs(copy.deepcopy(model).to("meta"), input_shape, "meta")
    except Exception:  # a user's forward that needs numbers, such as one with .item()
        macs = _macs(copy.deepcopy(model).to("cpu"), input_shape, "cpu")
    return ModelSize(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters_weights=sum(weights.values()),
        macs=macs,
    )


def _macs(ghost: nn.Module, input_shape: tuple[int, ...], device: str) -> int:
    ghost.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(torch.zeros(1, *input_shape, device=device))
    return int(counter.get_total_flops()) // 2  # torch counts a multiply and an add as two
