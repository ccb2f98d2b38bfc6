"""Fully connected networks."""

from __future__ import annotations

import re
from collections import OrderedDict
from math import prod

from torch import nn

from aiq_search.errors import InputError
from aiq_search.models.layers import after_layer, check_options, check_width, initialise

__all__ = ["mlp"]

_WIDTH_NAME = re.compile(r"hidden[1-9][0-9]*")


def mlp(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    depth: int | None = None,
    dropout: float = 0.0,
    batch_norm: bool = False,
    activation: str = "elu",
    **widths: int,
) -> nn.Module:
    """A fully connected network: input -> hidden1 -> ... -> hidden<depth> -> classes.

    Args:
        input_shape: Shape of one sample; it is flattened.
        classes: Number of outputs.
        depth: How many of the widths are used; all of them by default.
        dropout: Probability that a hidden output is dropped, in [0, 1).
        batch_norm: Whether a batch norm follows each hidden layer.
        activation: Name of the activation, see ``models.layers.ACTIVATIONS``.
        widths: ``hidden1=…, hidden2=…``: neurons of each hidden layer.

    Returns:
        The network, on (N, *input_shape) float32 -> (N, classes) logits.

    Raises:
        InputError: A width is missing, not positive, or not called ``hidden<number>``.

    Example:
        >>> mlp(input_shape=(1, 8, 8), classes=10, hidden1=16, hidden2=8).output
        Linear(in_features=8, out_features=10, bias=True)
    """
    check_options(activation, dropout, batch_norm)
    for name, width in widths.items():
        if not _WIDTH_NAME.fullmatch(name):
            raise InputError(f"mlp has no argument {name!r}; widths are called hidden1, hidden2, and so on.")
        if width is not None:
            check_width(name, width)
    if depth is None:
        depth = len(widths)
    elif isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise InputError(f"depth must be a whole number >= 1, but got {depth!r}.")
    missing = next((i for i in range(1, depth + 1) if widths.get(f"hidden{i}") is None), None)
    if depth < 1 or missing is not None:
        raise InputError(
            "mlp needs a width for each hidden layer, hidden1 to hidden<depth> with depth >= 1; "
            f"got depth={depth:,}, missing: hidden{missing or 1}."
        )
    names = [f"hidden{i}" for i in range(1, depth + 1)]
    modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    features = prod(input_shape)
    for name in names:
        width = widths[name]
        modules[name] = nn.Linear(features, width)
        norm = nn.BatchNorm1d(width) if batch_norm else None
        modules.update(after_layer(name, norm, activation, dropout))
        features = width
    modules["output"] = nn.Linear(features, classes)
    return initialise(nn.Sequential(modules))
