"""The two networks of Schaub and Hotaling (2023), after LeCun et al. (1998)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from aiq_search.errors import InputError
from aiq_search.models.layers import after_layer, check_options, check_width, initialise
from aiq_search.models.mlp import mlp

__all__ = ["lenet_5", "lenet_300_100"]


def lenet_300_100(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    hidden1: int = 300,
    hidden2: int = 100,
    dropout: float = 0.0,
    batch_norm: bool = False,
    activation: str = "elu",
) -> nn.Module:
    """LeNet-300-100: two fully connected hidden layers of varied width.

    Args:
        input_shape: Shape of one sample; it is flattened.
        classes: Number of outputs.
        hidden1: Neurons of the first hidden layer.
        hidden2: Neurons of the second hidden layer.
        dropout: Probability that a hidden output is dropped, in [0, 1).
        batch_norm: Whether a batch norm follows each hidden layer.
        activation: Name of the activation, see ``models.layers.ACTIVATIONS``.

    Returns:
        The network, on (N, *input_shape) float32 -> (N, classes) logits.

    Raises:
        InputError: A width, the dropout or the activation is not valid.
    """
    return mlp(
        input_shape=input_shape,
        classes=classes,
        hidden1=hidden1,
        hidden2=hidden2,
        dropout=dropout,
        batch_norm=batch_norm,
        activation=activation,
    )


def lenet_5(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    conv1: int = 20,
    conv2: int = 50,
    fc: int = 500,
    dropout: float = 0.0,
    batch_norm: bool = False,
    activation: str = "elu",
) -> nn.Module:
    """LeNet-5 as the paper varies it: two 5x5 convolutions, a fully connected layer as a convolution.

    conv 5x5 (conv1) -> max pool 2 -> conv 5x5 (conv2) -> max pool 2 -> conv over the remaining pixels (fc;
    4x4 for images of 28x28) -> linear.

    Args:
        input_shape: (C, H, W) of one image, H and W at least 16.
        classes: Number of outputs.
        conv1: Channels of the first convolution.
        conv2: Channels of the second convolution.
        fc: Neurons of the fully connected layer.
        dropout: Probability that an output of ``fc`` is dropped, in [0, 1).
        batch_norm: Whether a batch norm follows each hidden layer.
        activation: Name of the activation, see ``models.layers.ACTIVATIONS``.

    Returns:
        The network, on (N, C, H, W) float32 -> (N, classes) logits.

    Raises:
        InputError: A width, the dropout, the activation or the image size is not valid.

    Example:
        >>> lenet_5(input_shape=(1, 28, 28), classes=10, conv1=2, conv2=4, fc=8).fc
        Conv2d(4, 8, kernel_size=(4, 4), stride=(1, 1))
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 16:
        raise InputError(
            f"lenet_5 takes images (C, H, W) of at least 16x16 pixels, but got {tuple(input_shape)}; "
            "use mlp for smaller images and for tables."
        )
    check_options(activation, dropout, batch_norm)
    for name, width in {"conv1": conv1, "conv2": conv2, "fc": fc}.items():
        check_width(name, width)
    channels, height, width = input_shape
    kernel = (((height - 4) // 2 - 4) // 2, ((width - 4) // 2 - 4) // 2)

    def block(name: str, layer: nn.Conv2d, dropout: float = 0.0) -> list[tuple[str, nn.Module]]:
        norm = nn.BatchNorm2d(layer.out_channels) if batch_norm else None
        return [(name, layer), *after_layer(name, norm, activation, dropout)]

    modules = OrderedDict[str, nn.Module](
        [
            *block("conv1", nn.Conv2d(channels, conv1, 5)),
            ("conv1_pool", nn.MaxPool2d(2)),
            *block("conv2", nn.Conv2d(conv1, conv2, 5)),
            ("conv2_pool", nn.MaxPool2d(2)),
            *block("fc", nn.Conv2d(conv2, fc, kernel), dropout),
            ("flatten", nn.Flatten()),
            ("output", nn.Linear(fc, classes)),
        ]
    )
    return initialise(nn.Sequential(modules))
