"""MobileNetV2 of torchvision's blocks, with a width for each stage."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import nn

from aiq_search.errors import InputError
from aiq_search.models.layers import check_options, check_width, initialise
from aiq_search.models.resnet import check_images, check_multiplier
from aiq_search.models.stages import check_depth, of_stages

__all__ = ["MOBILENET_STAGE", "mobilenet_v2"]

MOBILENET_STAGE = ("width", "blocks", "stride", "expansion")


class _Stage(NamedTuple):
    expansion: int
    width: int
    blocks: int
    stride: int


# Table 2 of Sandler et al. (2018).
_STAGES = (
    _Stage(1, 16, 1, 1),
    _Stage(6, 24, 2, 2),
    _Stage(6, 32, 3, 2),
    _Stage(6, 64, 4, 2),
    _Stage(6, 96, 3, 1),
    _Stage(6, 160, 3, 2),
    _Stage(6, 320, 1, 1),
)


def mobilenet_v2(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    depth: int = 7,
    stem_width: int = 32,
    stem_stride: int = 2,
    last_width: int = 1280,
    width_multiplier: float = 1.0,
    divisor: int = 8,
    dropout: float = 0.2,
    **stages: int,
) -> nn.Module:
    """MobileNetV2 (Sandler et al., 2018) of torchvision's blocks; by default torchvision's own.

    Args:
        input_shape: (C, H, W) of one image.
        classes: Number of outputs.
        depth: Number of stages, at most seven.
        stem_width: Channels of the first convolution.
        stem_stride: Its stride; 1 for images of some dozen pixels.
        last_width: Channels of the last convolution, which only a multiplier above 1 changes.
        width_multiplier: What all widths are multiplied by.
        divisor: Widths are rounded to multiples of it, as torchvision does; 1: to whole numbers.
        dropout: Probability in [0, 1) that a number before the output layer is dropped.
        stages: ``width1=…, blocks1=…, stride1=…, expansion1=…``: channels, number of blocks, stride, and how
            many times wider the blocks are inside, of a stage. By default as in the paper.

    Returns:
        The network, on (N, C, H, W) float32 -> (N, classes) logits.

    Raises:
        InputError: An argument is not possible.

    Example:
        >>> mobilenet_v2(input_shape=(3, 32, 32), classes=10, depth=2, last_width=40).classifier[1]
        Linear(in_features=40, out_features=10, bias=True)
    """
    # A second to import, which a worker that trains other networks need not wait for.
    from torchvision.models.mobilenetv2 import InvertedResidual
    from torchvision.ops import Conv2dNormActivation

    check_images("mobilenet_v2", input_shape)
    check_options("relu", dropout, False)
    check_depth("mobilenet_v2", depth, len(_STAGES))
    check_multiplier(width_multiplier)
    own = of_stages("mobilenet_v2", MOBILENET_STAGE, stages)
    sizes = {f"{kind}{number}": value for (kind, number), value in own.items()}
    sizes |= {
        "stem_width": stem_width,
        "stem_stride": stem_stride,
        "last_width": last_width,
        "divisor": divisor,
    }
    for name, value in sizes.items():
        check_width(name, value)
        if name.startswith("stride") and value > 2:
            raise InputError(f"{name} must be 1 or 2, but got {value}.")
    channels = _rounded(stem_width * width_multiplier, divisor)
    layers: list[nn.Module] = [
        Conv2dNormActivation(input_shape[0], channels, stride=stem_stride, activation_layer=nn.ReLU6)
    ]
    for number in range(1, depth + 1):
        usual = _STAGES[number - 1]
        stage = usual._replace(
            **{kind: own[kind, number] for kind in MOBILENET_STAGE if (kind, number) in own}
        )
        width = _rounded(stage.width * width_multiplier, divisor)
        for index in range(stage.blocks):
            stride = stage.stride if index == 0 else 1
            layers.append(InvertedResidual(channels, width, stride, stage.expansion))
            channels = width
    last = _rounded(last_width * max(1.0, width_multiplier), divisor)
    layers.append(Conv2dNormActivation(channels, last, kernel_size=1, activation_layer=nn.ReLU6))
    modules = OrderedDict[str, nn.Module](
        features=nn.Sequential(*layers),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes)),
    )
    return initialise(nn.Sequential(modules))


def _rounded(width: float, divisor: int) -> int:
    """To the nearest multiple, not below nine tenths of the width: the rule of the paper's authors."""
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * width else nearest
