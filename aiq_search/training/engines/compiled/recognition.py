"""Which networks the compiled engine knows: recognised from the modules themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import nn

__all__ = ["MOST_GROUPED", "Stage", "UnknownNetworkError", "recognise"]


_KNOWN = {
    nn.AdaptiveAvgPool2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Conv2d,
    nn.Dropout,
    nn.ELU,
    nn.Flatten,
    nn.Identity,
    nn.LeakyReLU,
    nn.Linear,
    nn.MaxPool2d,
    nn.ReLU,
    nn.Tanh,
}

# Up to so many channels a grouped convolution is trained here, as a dense one.
MOST_GROUPED = 16


class UnknownNetworkError(Exception):
    """The compiled engine does not know a network; the message says what of it."""


@dataclass(frozen=True)
class Stage:
    """A linear layer or convolution and what follows it up to the next one.

    Pooling comes before the activation here, whatever their order in the network: an activation that never
    falls gives the same numbers either way.

    Attributes:
        name: Of the layer, as in ``named_modules``.
        layer: The layer.
        inputs: Channels, height and width of what it takes; features are channels of one position.
        outputs: Likewise of what it gives, before pooling.
        norm: A batch norm behind the layer.
        pool: Height and width of the windows of which the largest is kept.
        activation: ReLU (leaky or not), ELU or tanh.
        dropout: Dropout behind all that.
        averaged: Whether a linear layer takes the mean of each channel over all positions.
    """

    name: str
    layer: nn.Linear | nn.Conv2d
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    pool: tuple[int, int] = (1, 1)
    activation: nn.ReLU | nn.LeakyReLU | nn.ELU | nn.Tanh | None = None
    dropout: nn.Dropout | None = None
    averaged: bool = False

    @property
    def pooled(self) -> tuple[int, int, int]:
        """Channels, height and width of what the stage gives."""
        channels, height, width = self.outputs
        return channels, height // self.pool[0], width // self.pool[1]

    @property
    def is_matrix(self) -> bool:
        """Whether the layer is a product with a matrix: linear, or a filter that covers all of its input."""
        return isinstance(self.layer, nn.Linear) or (
            self.layer.kernel_size == self.inputs[1:] and self.layer.padding == (0, 0) and self.groups == 1
        )

    @property
    def groups(self) -> int:
        """How many groups the channels of a convolution are in; 1 unless it is grouped or depthwise."""
        return self.layer.groups if isinstance(self.layer, nn.Conv2d) else 1


def recognise(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[Stage, ...]:
    """Take a network apart into stages.

    Args:
        model: The network.
        input_shape: Shape of one sample.

    Returns:
        Its stages; the last one gives the logits.

    Raises:
        UnknownNetworkError: It is not a sequence of modules that the compiled engine knows.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [stage.outputs for stage in recognise(model, (1, 2, 2))]
        [(3, 1, 1), (2, 1, 1)]
    """
    if len(input_shape) not in (1, 3):
        raise UnknownNetworkError(f"samples of shape {input_shape}")
    builder = _Builder(input_shape)
    parameters: list[int] = []
    for name, module in _modules(model):
        builder.add(name, module)
        parameters += [id(parameter) for parameter in module.parameters()]
    if sorted(parameters) != sorted(id(parameter) for parameter in model.parameters()):
        raise UnknownNetworkError("parameters that several modules share, or none uses")
    return builder.stages()


def _modules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules of a sequence, and of the sequences in it, in the order in which they run."""
    changed = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
        "forward" in vars(module),
    )
    if any(changed):
        raise UnknownNetworkError(f"{prefix or 'the network'}: a module with hooks or a forward of its own")
    if type(module) is nn.Sequential:
        for name, child in module._modules.items():
            if child is not None:
                yield from _modules(child, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, module


class _Builder:
    """Stages, module by module."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self._done: list[Stage] = []
        self._open: Stage | None = None
        # Whether the modules see features instead of images.
        self._flat = len(input_shape) == 1
        # Whether they see the mean of each channel.
        self._averaged = False
        channels, height, width = (*input_shape, 1, 1)[:3]
        self._shape = (channels, height, width)

    def stages(self) -> tuple[Stage, ...]:
        if self._open is not None:
            self._done.append(self._open)
        if len(self._done) < 2 or not self._flat:
            raise UnknownNetworkError("a network without a hidden layer and an output of logits")
        return tuple(self._done)

    def add(self, name: str, module: nn.Module) -> None:
        # A subclass may do anything: only the classes themselves are known.
        if type(module) not in _KNOWN:
            raise UnknownNetworkError(f"{name}: {module!r}")
        stage = None if self._open is None else self._extended(self._open, module)
        match module:
            case nn.Identity():
                pass
            case nn.Flatten(start_dim=1, end_dim=-1):
                self._flat = True
            case nn.Linear() if self._flat:
                self._begin(name, module, self._linear_outputs(module))
            case nn.AdaptiveAvgPool2d(output_size=1 | (1, 1)) if self._open is not None and not self._flat:
                self._averaged = True
            case nn.Conv2d() if not self._flat and not self._averaged:
                self._begin(name, module, self._convolution_outputs(name, module))
            case _ if stage is not None:
                self._open = stage
                self._shape = stage.pooled
            case _:
                raise UnknownNetworkError(f"{name}: {module!r} at this place")

    def _begin(self, name: str, layer: nn.Linear | nn.Conv2d, outputs: tuple[int, int, int]) -> None:
        parameters = list(layer.parameters())
        if not all(p.requires_grad and p.dtype == torch.float32 for p in parameters):
            raise UnknownNetworkError(f"{name}: a layer that is frozen or not of float32")
        if self._open is not None:
            self._done.append(self._open)
        self._open = Stage(name, layer, self._shape, outputs, averaged=self._averaged)
        self._shape = outputs
        self._averaged = False

    def _linear_outputs(self, layer: nn.Linear) -> tuple[int, int, int]:
        features = self._shape[0] if self._averaged else prod(self._shape)
        if layer.in_features != features:
            raise UnknownNetworkError(f"{layer!r} behind {features} features")
        if not self._averaged:
            self._shape = (layer.in_features, 1, 1)
        return layer.out_features, 1, 1

    def _convolution_outputs(self, name: str, layer: nn.Conv2d) -> tuple[int, int, int]:
        channels, height, width = self._shape
        padding, filter_, (stride, across) = layer.padding, layer.kernel_size, layer.stride
        simple = (layer.dilation, layer.padding_mode) == ((1, 1), "zeros")
        if isinstance(padding, str) or not simple or stride != across or layer.in_channels != channels:
            raise UnknownNetworkError(f"{name}: {layer!r}")
        if layer.groups > 1 and channels > MOST_GROUPED:
            raise UnknownNetworkError(f"{name}: {layer!r}, which torch trains faster")
        size = [
            (extent + 2 * around - taps) // stride + 1
            for extent, around, taps in zip((height, width), padding, filter_, strict=True)
        ]
        if min(size) < 1 or padding[0] >= filter_[0] or padding[1] >= filter_[1]:
            raise UnknownNetworkError(f"{name}: {layer!r} on {height} x {width} positions")
        return layer.out_channels, size[0], size[1]

    def _extended(self, stage: Stage, module: nn.Module) -> Stage | None:
        """The stage with one more module, or None where it cannot be there."""
        if stage.dropout is not None or self._averaged:
            return None
        match module:
            case nn.Dropout():
                return None if module.p == 1 else replace(stage, dropout=module if module.p else None)
            case nn.MaxPool2d() if stage.pool == (1, 1) and not self._flat:
                return _with_pool(stage, module)
            case nn.BatchNorm1d() | nn.BatchNorm2d() if stage.norm is None and stage.activation is None:
                return self._with_norm(stage, module)
            case nn.ReLU() | nn.Tanh() if stage.activation is None:
                return replace(stage, activation=module)
            case nn.LeakyReLU() if stage.activation is None and module.negative_slope >= 0:
                return replace(stage, activation=module)
            case nn.ELU() if stage.activation is None and module.alpha >= 0:
                return replace(stage, activation=module)
        return None

    def _with_norm(self, stage: Stage, module: nn.BatchNorm1d | nn.BatchNorm2d) -> Stage | None:
        images = isinstance(module, nn.BatchNorm2d)
        fits = images == isinstance(stage.layer, nn.Conv2d) and images != self._flat and stage.pool == (1, 1)
        known = module.affine and module.track_running_stats and module.momentum is not None
        learns = all(p.requires_grad and p.dtype == torch.float32 for p in module.parameters())
        fits = fits and known and learns and module.num_features == stage.outputs[0]
        return replace(stage, norm=module) if fits else None


def _with_pool(stage: Stage, module: nn.MaxPool2d) -> Stage | None:
    size = _pair(module.kernel_size)
    plain = (_pair(module.stride), _pair(module.padding), _pair(module.dilation)) == (size, (0, 0), (1, 1))
    if not plain or module.ceil_mode or module.return_indices or prod(size) > 255:
        return None
    pooled = replace(stage, pool=size)
    return pooled if min(pooled.pooled) >= 1 else None


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
