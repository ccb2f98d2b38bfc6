"""How large a network is: parameters in two conventions, and multiply-accumulates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from aiq_search.models.layers import ACTIVATIONS, Residual

__all__ = ["ModelSize", "layer_outputs", "model_size"]

_Result = TypeVar("_Result")

# Bytes of weights below which a copy and a pass of one sample cost nothing worth sparing.
_SMALL = 100_000_000

# Of torch's own layers, those that multiply no matrices.
_WITHOUT_PRODUCTS = {
    f"torch.nn.modules.{name}" for name in ("activation", "batchnorm", "dropout", "flatten", "pooling")
}

# Those whose output has the shape of their input.
_SHAPE_KEPT = (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, *ACTIVATIONS.values())

# Those that go over an image or a signal, and how many axes that has.
_SLIDING = {
    nn.Conv1d: 1, nn.MaxPool1d: 1, nn.AvgPool1d: 1,
    nn.Conv2d: 2, nn.MaxPool2d: 2, nn.AvgPool2d: 2,
}  # fmt: skip
_TO_ONE_SIZE = {nn.AdaptiveAvgPool1d: 1, nn.AdaptiveAvgPool2d: 2}

# Containers that run their modules one after the other.
_SEQUENCES = (nn.Sequential, Residual)

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

    One sample goes through a copy: on the CPU if the model is small and its weights are there, else on the
    meta device, where nothing is computed.

    Args:
        model: The network; it is left as it was.
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
        macs=_macs(model, input_shape),
    )


def _macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    outputs = _outputs_of_sequence(model, input_shape)
    if outputs is None:
        return _on_a_ghost(model, input_shape, _macs_of_a_pass)
    weights = {name: model.get_submodule(name).get_parameter("weight").numel() for name in outputs}
    return sum(places * weights[name] for name, (_, places) in outputs.items())


def layer_outputs(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Neurons of each linear layer and convolution, and at how many places a sample shows their state.

    A linear layer behind a flattening has one place, a convolution one a position, a linear layer of a
    sequence one a token. A layer that runs several times is counted as in its last run.

    Args:
        model: The network; it is left as it was.
        input_shape: Shape of one sample.

    Returns:
        By name: neurons, places.

    Example:
        >>> layer_outputs(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2)), (1, 4, 4))
        {'0': (4, 4), '2': (2, 1)}
    """
    known = _outputs_of_sequence(model, input_shape)
    if known is not None:
        return known

    def run(ghost: nn.Module, input_shape: tuple[int, ...], device: str) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for name, module in ghost.named_modules():
            if isinstance(module, _LAYERS):
                module.register_forward_hook(partial(_note_output, found, name))
        ghost.eval()
        with torch.no_grad():
            ghost(torch.zeros(1, *input_shape, device=device))
        return found

    return _on_a_ghost(model, input_shape, run)


def _outputs_of_sequence(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[int, int]] | None:
    """``layer_outputs`` of a plain sequence of common layers, from their shapes alone; None for all else.

    A pass on the meta device takes torch some 20 ms, and a search asks for the price of many networks.
    """
    if type(model) is not nn.Sequential:
        return None
    outputs: dict[str, tuple[int, int]] = {}
    shape = input_shape
    for name, layer in _in_order(model):
        after = _shape_after(layer, shape)
        if after is None or min(after) < 1:
            return None
        shape = after
        if isinstance(layer, _LAYERS):
            outputs[name] = (shape[0], math.prod(shape[1:]))
    return outputs


def _in_order(sequence: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules of a sequence, and of the sequences in it, in the order in which they run."""
    for name, module in sequence.named_children():
        if type(module) in _SEQUENCES:
            yield from _in_order(module, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", module


def _shape_after(layer: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:  # noqa: ANN401 - of many types
    """The shape of one sample after a common layer; None where that takes a pass."""
    axes = len(shape) - 1
    if _SLIDING.get(type(layer)) == axes:
        if getattr(layer, "ceil_mode", False) or isinstance(layer.padding, str):
            return None
        numbers = (layer.padding, getattr(layer, "dilation", 1), layer.kernel_size, layer.stride)
        size = [
            (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for length, padding, dilation, kernel, stride in zip(
                shape[1:], *(_each(n, axes) for n in numbers), strict=True
            )
        ]
        return (getattr(layer, "out_channels", shape[0]), *size)
    if _TO_ONE_SIZE.get(type(layer)) == axes and layer.output_size == 1:
        return (shape[0], *[1] * axes)
    if type(layer) is nn.Linear and len(shape) == 1:
        return (layer.out_features,)
    if type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
        return (math.prod(shape),)
    return shape if type(layer) in _SHAPE_KEPT else None


def _each(number: Any, axes: int) -> tuple[int, ...]:  # noqa: ANN401 - torch has either
    return (number,) * axes if isinstance(number, int) else number


def _note_output(
    found: dict[str, tuple[int, int]], name: str, module: nn.Module, inputs: object, output: torch.Tensor
) -> None:
    neurons = output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1]
    found[name] = (neurons, output.numel() // neurons)


def _on_a_ghost(
    model: nn.Module, input_shape: tuple[int, ...], run: Callable[[nn.Module, tuple[int, ...], str], _Result]
) -> _Result:
    """Run a copy of a model where nothing is computed, or on the CPU if it is small or cannot be run there.

    torch takes a second and 80 MB for its first pass on the meta device. What it counts on the CPU lacks the
    products within fused operators, such as attention's: that is for networks without them.
    """
    tensors = model.state_dict().values()
    on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    if (
        on_cpu
        and sum(tensor.nbytes for tensor in tensors) < _SMALL
        and (run is not _macs_of_a_pass or _is_plain(model))
    ):
        return run(copy.deepcopy(model), input_shape, "cpu")
    try:
        return run(copy.deepcopy(model).to("meta"), input_shape, "meta")
    except Exception:  # a user's forward that needs numbers, such as one with .item()
        ghost = copy.deepcopy(model)
        empty = any(t.is_meta for t in ghost.state_dict().values())
        return run(ghost.to_empty(device="cpu") if empty else ghost.to("cpu"), input_shape, "cpu")


def _macs_of_a_pass(ghost: nn.Module, input_shape: tuple[int, ...], device: str) -> int:
    ghost.eval()
    if _is_plain(ghost):
        return _macs_of_layers(ghost, torch.zeros(1, *input_shape, device=device))
    from torch.utils.flop_counter import FlopCounterMode  # 70 MB and torch's compiler, a second to import

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(torch.zeros(1, *input_shape, device=device))
    return int(counter.get_total_flops()) // 2  # torch counts a multiply and an add as two


def _is_plain(model: nn.Module) -> bool:
    """Whether a model is a sequence of known layers, so that all its products are those of layers."""
    return all(
        type(module) in _SEQUENCES
        or type(module) in _LAYERS
        or (type(module).__module__ in _WITHOUT_PRODUCTS and not isinstance(module, nn.MultiheadAttention))
        for module in model.modules()
    )


def _macs_of_layers(model: nn.Module, sample: torch.Tensor) -> int:
    macs = 0

    def count(module: Any, inputs: object, output: torch.Tensor) -> None:  # noqa: ANN401
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()  # each output is a product with its weights

    for module in model.modules():
        if isinstance(module, _LAYERS):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(sample)
    return macs
