"""Residual networks of torchvision's blocks, with a width for each stage."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

from torch import nn

from aiq_search.errors import InputError
from aiq_search.models.layers import check_choice, check_options, check_width, initialise
from aiq_search.models.stages import check_depth, of_stages

__all__ = ["RESNET_STAGE", "check_images", "check_multiplier", "resnet"]

RESNET_STAGE = ("width", "blocks", "stride")


def resnet(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    depth: int = 4,
    block: Literal["basic", "bottleneck"] = "basic",
    stem: Literal["small", "large"] = "small",
    width_multiplier: float = 1.0,
    dropout: float = 0.0,
    **stages: int,
) -> nn.Module:
    """A residual network (He et al., 2016) of torchvision's blocks.

    With ``stem: large`` and nothing else it is torchvision's resnet18; with three, four, six and three
    blocks resnet34, and with ``block: bottleneck`` besides resnet50.

    Args:
        input_shape: (C, H, W) of one image.
        classes: Number of outputs.
        depth: Number of stages.
        block: basic (two 3x3 convolutions) or bottleneck (1x1, 3x3 and 1x1 to four times the width).
        stem: small (3x3, for images of some dozen pixels) or large (7x7 and pooling, a quarter of the size).
        width_multiplier: What all widths are multiplied by.
        dropout: Probability in [0, 1) that a number before the output layer is dropped.
        stages: ``width1=…, blocks1=…, stride1=…``: channels, number of blocks and stride of a stage. By
            default widths are 64, 128, 256, …, there are two blocks, and all stages but the first halve the
            size.

    Returns:
        The network, on (N, C, H, W) float32 -> (N, classes) logits.

    Raises:
        InputError: An argument is not possible.

    Example:
        >>> resnet(input_shape=(3, 32, 32), classes=10, depth=3, width1=16, width2=8, width3=4).fc
        Linear(in_features=4, out_features=10, bias=True)
    """
    # A second to import, which a worker that trains other networks need not wait for.
    from torchvision.models.resnet import BasicBlock, Bottleneck

    check_images("resnet", input_shape)
    check_options("relu", dropout, False)
    check_depth("resnet", depth, 8)
    check_choice("block", block, ("basic", "bottleneck"))
    check_choice("stem", stem, ("small", "large"))
    check_multiplier(width_multiplier)
    own = of_stages("resnet", RESNET_STAGE, stages)
    for (kind, number), value in own.items():
        check_width(f"{kind}{number}", value)
    kind_of_block = BasicBlock if block == "basic" else Bottleneck

    def width_of(stage: int) -> int:
        width: int = own.get(("width", stage), 64 * 2 ** (stage - 1))
        return max(1, round(width * width_multiplier))

    channels = width_of(1)
    modules = OrderedDict[str, nn.Module](_stem(input_shape[0], channels, stem))
    for stage in range(1, depth + 1):
        blocks = []
        for index in range(own.get(("blocks", stage), 2)):
            stride = own.get(("stride", stage), 1 if stage == 1 else 2) if index == 0 else 1
            blocks.append(_block(kind_of_block, channels, width_of(stage), stride))
            channels = width_of(stage) * kind_of_block.expansion
        modules[f"layer{stage}"] = nn.Sequential(*blocks)
    modules |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if dropout:
        modules["dropout"] = nn.Dropout(dropout)
    modules["fc"] = nn.Linear(channels, classes)
    return initialise(nn.Sequential(modules))


def _stem(ins: int, outs: int, stem: str) -> list[tuple[str, nn.Module]]:
    """The layers before the first stage, named as torchvision does."""
    small = stem == "small"
    convolution = (
        nn.Conv2d(ins, outs, 3, 1, 1, bias=False) if small else nn.Conv2d(ins, outs, 7, 2, 3, bias=False)
    )
    layers = [("conv1", convolution), ("bn1", nn.BatchNorm2d(outs)), ("relu", nn.ReLU(inplace=True))]
    return layers if small else [*layers, ("maxpool", nn.MaxPool2d(3, 2, 1))]


def _block(kind: Any, ins: int, width: int, stride: int) -> nn.Module:  # noqa: ANN401 - torchvision has no types
    """A block, whose shortcut is a convolution where the shape changes."""
    outs, shortcut = width * kind.expansion, None
    if stride != 1 or ins != outs:
        shortcut = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))
    block: nn.Module = kind(ins, width, stride, shortcut)
    return block


def check_images(model: str, shape: tuple[int, ...]) -> None:
    """Raise InputError unless samples of a shape are images."""
    if len(shape) != 3:
        raise InputError(
            f"{model} takes images of shape (C, H, W), but a sample has the shape {tuple(shape)}; use mlp "
            "for tables, and cnn_1d for signals."
        )


def check_multiplier(value: Any) -> None:  # noqa: ANN401 - a file's value
    """Raise InputError unless a number can multiply widths."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
        raise InputError(f"0 < width_multiplier <= 100 must hold, but got width_multiplier={value!r}.")
