"""From a model's name and arguments to a network."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from aiq_search.errors import InputError
from aiq_search.models.lenet import lenet_5, lenet_300_100
from aiq_search.models.mlp import mlp
from aiq_search.suggest import did_you_mean
from aiq_search.user_code import is_reference, load_function

__all__ = ["MODELS", "Architecture", "build_model", "check_argument_names"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet_300_100": lenet_300_100,
    "lenet_5": lenet_5,
    "mlp": mlp,
}

# What the data set decides, so that no file and no parameter may.
_GIVEN = ("input_shape", "classes")


@dataclass(frozen=True)
class Architecture:
    """All that it takes to build a network again, in JSON types.

    Attributes:
        name: A key of ``MODELS`` or ``package.module:function``.
        arguments: What the function is called with, beside shape and classes.
        input_shape: Shape of one sample.
        classes: Number of outputs.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, ...] = ()
    classes: int = 0

    def build(self) -> nn.Module:
        """Build the network with fresh weights from torch's current random state."""
        return build_model(self.name, self.arguments, self.input_shape, self.classes)

    def document(self) -> dict[str, Any]:
        """The architecture as a JSON document."""
        return {**asdict(self), "input_shape": list(self.input_shape)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Architecture:
        """The inverse of ``document``."""
        return cls(**{**document, "input_shape": tuple(document["input_shape"])})


def _function(name: str) -> Callable[..., nn.Module]:
    if name in MODELS:
        return MODELS[name]
    if is_reference(name):
        return load_function(name)
    raise InputError(
        f"model.name: unknown model {name!r}; {did_you_mean(name, MODELS)} "
        "A model of your own is named as package.module:function."
    )


def check_argument_names(model: str, names: Iterable[str]) -> None:
    """Check that a model takes arguments of these names.

    Args:
        model: A key of ``MODELS`` or ``package.module:function`` (then imported).
        names: Names of arguments.

    Raises:
        InputError: The model is unknown or has no such argument.

    Example:
        >>> check_argument_names("lenet_5", ["conv3"])
        Traceback (most recent call last):
        aiq_search.errors.InputError: model 'lenet_5' takes no argument 'conv3'; did you mean "conv2"?
    """
    parameters = inspect.signature(_function(model)).parameters
    valid = [
        name
        for name, parameter in parameters.items()
        if name not in _GIVEN and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name in valid:
            continue
        if model == "mlp":
            if re.fullmatch(r"hidden[1-9][0-9]*", name):
                continue
            valid = [*valid, *(f"hidden{i}" for i in range(1, 10))]
        elif open_ended and name not in _GIVEN:
            continue
        raise InputError(f"model {model!r} takes no argument {name!r}; {did_you_mean(name, valid)}")


def build_model(
    name: str, arguments: Mapping[str, Any], input_shape: tuple[int, ...], classes: int
) -> nn.Module:
    """Build a network with fresh weights from torch's current random state.

    Args:
        name: A key of ``MODELS`` or ``package.module:function``. The latter is called with the
            arguments and, where it takes them, ``input_shape`` and ``classes``.
        arguments: Keyword arguments.
        input_shape: Shape of one sample: (C, H, W) or (F,).
        classes: Number of outputs.

    Returns:
        A module on (N, *input_shape) float32 -> (N, classes) logits.

    Raises:
        InputError: The model is unknown or refuses its arguments.
    """
    function = _function(name)
    check_argument_names(name, arguments)
    given = {"input_shape": tuple(input_shape), "classes": classes}
    parameters = inspect.signature(function).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {key: value for key, value in given.items() if takes_all or key in parameters}
    model = function(**given, **arguments)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model.name: {name} must return a torch.nn.Module, but gave {type(model).__name__}."
        )
    return model
