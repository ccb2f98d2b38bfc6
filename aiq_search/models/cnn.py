"""Small convolutional networks for images and signals, stage by stage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from torch import nn

from aiq_search.errors import InputError
from aiq_search.models.layers import (
    Residual,
    after_layer,
    check_choice,
    check_options,
    check_width,
    initialise,
)
from aiq_search.models.stages import check_depth, of_stages

__all__ = ["PER_STAGE", "cnn", "cnn_1d"]

# What may be given for one stage, by its number behind the name: width3, kernel1, ….
PER_STAGE = ("width", "kernel", "stride", "convolution")

_CONVOLUTIONS = ("plain", "separable", "grouped")
_DOWNSAMPLINGS = ("max_pool", "average_pool", "strided")
_PADDINGS = ("same", "valid")

# By the number of axes of an image or a signal.
_CONVOLUTION: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_GLOBAL: dict[int, type[nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d]] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
}
_POOL: dict[tuple[str, int], type[nn.Module]] = {
    ("max_pool", 1): nn.MaxPool1d,
    ("max_pool", 2): nn.MaxPool2d,
    ("average_pool", 1): nn.AvgPool1d,
    ("average_pool", 2): nn.AvgPool2d,
}


def cnn(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    depth: int | None = None,
    width: int = 8,
    kernel: int = 3,
    stride: int = 1,
    convolution: Literal["plain", "separable", "grouped"] = "plain",
    groups: int = 2,
    downsampling: Literal["max_pool", "average_pool", "strided"] = "max_pool",
    padding: Literal["same", "valid"] = "same",
    residual: bool = False,
    global_pooling: bool = True,
    head: int = 0,
    dropout: float = 0.0,
    batch_norm: bool = False,
    activation: str = "relu",
    **stages: Any,  # noqa: ANN401 - a file's values
) -> nn.Module:
    """A convolutional network for images: stages, global average pooling or flattening, and a linear output.

    A stage is convolution -> batch norm -> activation -> pooling. ``width``, ``kernel``, ``stride`` and
    ``convolution`` hold for all stages; with a number behind the name, such as ``width2``, for one.

    Args:
        input_shape: (C, H, W) of one image.
        classes: Number of outputs.
        depth: Number of stages; by default as many as have a width of their own.
        width: Channels that a stage gives.
        kernel: Rows and columns of its filters.
        stride: How much smaller it makes an image, in each direction.
        convolution: plain; separable (one filter a channel, then 1x1; Chollet, 2017); or grouped.
        groups: Groups of a grouped convolution, at most: the largest number that divides both widths.
        downsampling: What a stride above 1 is: max_pool, average_pool, or strided (of the convolution).
        padding: same (zeros around the image, so that odd kernels keep its size) or valid (none).
        residual: Whether a stage whose convolution keeps channels and size adds its input to its output,
            before the activation (He et al., 2016).
        global_pooling: Whether the last stage's channels are averaged over the image, or else flattened.
        head: Neurons of a fully connected layer before the output; 0: none.
        dropout: Probability in [0, 1) that a number before the output layer is dropped.
        batch_norm: Whether a batch norm follows each hidden layer; convolutions then have no biases.
        activation: Name of the activation, see ``models.layers.ACTIVATIONS``.
        stages: ``width1=…, kernel1=…, stride1=…, convolution1=…``: of one stage.

    Returns:
        The network, on (N, C, H, W) float32 -> (N, classes) logits.

    Raises:
        InputError: An argument is not possible, or the image becomes too small for a stage.

    Example:
        >>> cnn(input_shape=(1, 28, 28), classes=10, width1=4, width2=6, stride=2).conv2
        Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    check_options(activation, dropout, batch_norm)
    defaults = {"width": width, "kernel": kernel, "stride": stride, "convolution": convolution}
    builder = _Builder(input_shape, 2, groups, downsampling, padding, residual, batch_norm, activation)
    for stage in _stages("cnn", depth, defaults, stages):
        builder.add(stage)
    return builder.network(classes, global_pooling, head, dropout)


def cnn_1d(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    depth: int | None = None,
    width: int = 8,
    kernel: int = 3,
    stride: int = 1,
    convolution: Literal["plain", "separable", "grouped"] = "plain",
    groups: int = 2,
    downsampling: Literal["max_pool", "average_pool", "strided"] = "max_pool",
    padding: Literal["same", "valid"] = "same",
    residual: bool = False,
    global_pooling: bool = True,
    head: int = 0,
    dropout: float = 0.0,
    batch_norm: bool = False,
    activation: str = "relu",
    **stages: Any,  # noqa: ANN401 - a file's values
) -> nn.Module:
    """A convolutional network for signals; the arguments are those of `cnn`.

    Args:
        input_shape: (C, L) of one signal.
        classes: Number of outputs.
        depth: As of `cnn`; likewise all others.
        width: Channels that a stage gives.
        kernel: Length of its filters.
        stride: How much shorter it makes a signal.
        convolution: plain, separable or grouped.
        groups: Groups of a grouped convolution, at most.
        downsampling: max_pool, average_pool or strided.
        padding: same or valid.
        residual: Whether a stage adds its input to its output.
        global_pooling: Whether the last stage's channels are averaged over time.
        head: Neurons of a fully connected layer before the output; 0: none.
        dropout: Probability in [0, 1) that a number before the output layer is dropped.
        batch_norm: Whether a batch norm follows each hidden layer.
        activation: Name of the activation.
        stages: ``width1=…, kernel1=…, stride1=…, convolution1=…``: of one stage.

    Returns:
        The network, on (N, C, L) float32 -> (N, classes) logits.

    Raises:
        InputError: An argument is not possible, or the signal becomes too short for a stage.

    Example:
        >>> cnn_1d(input_shape=(2, 100), classes=3, width1=4, kernel=7, stride=4).conv1
        Conv1d(2, 4, kernel_size=(7,), stride=(1,), padding=(3,))
    """
    check_options(activation, dropout, batch_norm)
    defaults = {"width": width, "kernel": kernel, "stride": stride, "convolution": convolution}
    builder = _Builder(input_shape, 1, groups, downsampling, padding, residual, batch_norm, activation)
    for stage in _stages("cnn_1d", depth, defaults, stages):
        builder.add(stage)
    return builder.network(classes, global_pooling, head, dropout)


@dataclass(frozen=True)
class _Stage:
    """What a file says about a stage; the fields are the arguments of `cnn`."""

    number: int
    width: int
    kernel: int
    stride: int
    convolution: str


def _stages(
    model: str, depth: int | None, defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> list[_Stage]:
    """Every stage with what holds for it: its own value, or that of all."""
    own = of_stages(model, PER_STAGE, given)
    if depth is None:
        depth = max((number for kind, number in own if kind == "width"), default=0)
        if not depth:
            raise InputError(
                f"{model} needs depth, the number of stages, or a width for each: width1, width2, …."
            )
    check_depth(model, depth)
    stages = []
    for number in range(1, depth + 1):
        values = {kind: own.get((kind, number), value) for kind, value in defaults.items()}
        for kind in ("width", "kernel", "stride"):
            check_width(kind if values[kind] is defaults[kind] else f"{kind}{number}", values[kind])
        check_choice("convolution", values["convolution"], _CONVOLUTIONS)
        stages.append(_Stage(number, **values))
    return stages


class _Builder:
    """A network, stage by stage.

    Args:
        input_shape: Shape of one sample.
        axes: How many axes an image (2) or a signal (1) has besides its channels.
        groups: As of `cnn`; likewise all others.
    """

    def __init__(
        self, input_shape: tuple[int, ...], axes: int, groups: int, downsampling: str, padding: str,
        residual: bool, batch_norm: bool, activation: str,
    ) -> None:  # fmt: skip
        if len(input_shape) != axes + 1:
            kind, shape = ("images", "(C, H, W)") if axes == 2 else ("signals", "(C, L)")
            raise InputError(
                f"{'cnn' if axes == 2 else 'cnn_1d'} takes {kind} of shape {shape}, but a sample has the "
                f"shape {tuple(input_shape)}; use cnn for images, cnn_1d for signals, and mlp for tables."
            )
        check_width("groups", groups)
        check_choice("downsampling", downsampling, _DOWNSAMPLINGS)
        check_choice("padding", padding, _PADDINGS)
        if not isinstance(residual, bool):
            raise InputError(f"residual must be true or false, but got {residual!r}.")
        self._axes = axes
        self._groups = groups
        self._downsampling = downsampling
        self._same = padding == "same"
        self._residual = residual
        self._batch_norm = batch_norm
        self._activation = activation
        self._channels, self._size = input_shape[0], tuple(input_shape[1:])
        self._modules: OrderedDict[str, nn.Module] = OrderedDict()

    def add(self, stage: _Stage) -> None:
        """Append a stage."""
        name, strided = f"conv{stage.number}", self._downsampling == "strided"
        step = stage.stride if strided else 1
        border = (stage.kernel - 1) // 2 if self._same else 0
        size = tuple((length + 2 * border - stage.kernel) // step + 1 for length in self._size)
        self._check_size(stage, size, f"filters of {stage.kernel}")
        layers = OrderedDict(self._convolution(name, stage, step, border))
        norm = _NORM[self._axes](stage.width) if self._batch_norm else None
        behind = OrderedDict(after_layer(name, norm, self._activation, 0.0))
        if self._residual and (stage.width, size) == (self._channels, self._size):
            if norm is not None:
                layers[f"{name}_norm"] = behind.pop(f"{name}_norm")
            layers = OrderedDict({f"residual{stage.number}": Residual(layers)})
        self._modules.update(layers)
        self._modules.update(behind)
        self._channels, self._size = stage.width, size
        if stage.stride > 1 and not strided:
            pooled = tuple(length // stage.stride for length in size)
            self._check_size(stage, pooled, f"pooling by {stage.stride}")
            self._modules[f"{name}_pool"] = _POOL[self._downsampling, self._axes](stage.stride)
            self._size = pooled

    def network(self, classes: int, global_pooling: bool, head: int, dropout: float) -> nn.Module:
        """The network, with what follows the stages."""
        if not isinstance(global_pooling, bool):
            raise InputError(f"global_pooling must be true or false, but got {global_pooling!r}.")
        if head != 0 or isinstance(head, bool):
            check_width("head", head)
        features = self._channels * prod(self._size)
        if global_pooling and prod(self._size) > 1:
            self._modules["global_pool"] = _GLOBAL[self._axes](1)
            features = self._channels
        self._modules["flatten"] = nn.Flatten()
        if head:
            self._modules["head"] = nn.Linear(features, head)
            norm = nn.BatchNorm1d(head) if self._batch_norm else None
            self._modules.update(after_layer("head", norm, self._activation, dropout))
            features = head
        elif dropout:
            self._modules["dropout"] = nn.Dropout(dropout)
        self._modules["output"] = nn.Linear(features, classes)
        return initialise(nn.Sequential(self._modules))

    def _convolution(
        self, name: str, stage: _Stage, step: int, border: int
    ) -> Iterator[tuple[str, nn.Module]]:
        layer, bias = _CONVOLUTION[self._axes], not self._batch_norm
        ins, outs, kernel = self._channels, stage.width, stage.kernel
        if stage.convolution == "separable":
            # A bias here would only shift what the next layer, which has one, adds up.
            yield f"{name}_depthwise", layer(ins, ins, kernel, step, border, groups=ins, bias=False)
            yield name, layer(ins, outs, 1, bias=bias)
            return
        fitting = (g for g in range(min(self._groups, ins), 0, -1) if ins % g == 0 and outs % g == 0)
        groups = next(fitting) if stage.convolution == "grouped" else 1
        yield name, layer(ins, outs, kernel, step, border, groups=groups, bias=bias)

    def _check_size(self, stage: _Stage, size: tuple[int, ...], what: str) -> None:
        if min(size) < 1:
            before = " x ".join(map(str, self._size))
            raise InputError(
                f"stage {stage.number} sees {before} positions, too few for {what}; take fewer stages, "
                "smaller kernels or smaller strides."
            )
