"""The parts that the networks consist of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from aiq_search.errors import InputError
from aiq_search.suggest import did_you_mean

__all__ = [
    "ACTIVATIONS",
    "Residual",
    "after_layer",
    "check_choice",
    "check_options",
    "check_width",
    "initialise",
]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Residual(nn.Sequential):
    """A sequence that adds its input to its output (He et al., 2016); both have the same shape."""

    def forward(self, input: Tensor) -> Tensor:
        """The input plus what the sequence makes of it."""
        result = input
        for module in self:
            result = module(result)
        return input + result


def after_layer(
    name: str, normalisation: nn.Module | None, activation: str, dropout: float
) -> Iterator[tuple[str, nn.Module]]:
    """The named modules that follow a hidden layer: batch norm, activation, dropout.

    Args:
        name: The hidden layer's name; theirs are derived from it.
        normalisation: A batch norm of the layer's width, or none.
        activation: A key of ``ACTIVATIONS``.
        dropout: Probability in [0, 1) that an output is dropped.

    Yields:
        Name and module.
    """
    if normalisation is not None:
        yield f"{name}_norm", normalisation
    yield f"{name}_{activation}", ACTIVATIONS[activation]()
    if dropout > 0:
        yield f"{name}_dropout", nn.Dropout(dropout)


def check_options(activation: Any, dropout: Any, batch_norm: Any) -> None:  # noqa: ANN401 - a file's values
    """Check the arguments that all networks share.

    Raises:
        InputError: One of them has another type, or a value that is not possible.
    """
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        hint = did_you_mean(str(activation), ACTIVATIONS)
        raise InputError(f"unknown activation {activation!r}; {hint}")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise InputError(f"0 <= dropout < 1 must hold, but got dropout={dropout!r}.")
    if not isinstance(batch_norm, bool):
        raise InputError(f"batch_norm must be true or false, but got {batch_norm!r}.")


def check_width(name: str, width: Any) -> None:  # noqa: ANN401 - a file's value
    """Raise InputError unless ``width`` is a positive whole number."""
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise InputError(f"{name} must be a whole number >= 1, but got {width!r}.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:  # noqa: ANN401 - a file's value
    """Raise InputError unless ``value`` is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, but got {value!r}.")


def initialise(model: nn.Module) -> nn.Module:
    """Give every Linear and Conv He-normal weights and zero biases (He et al., 2015), in place.

    On the meta device there are no weights to draw, and torch would import its compiler to draw none.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
