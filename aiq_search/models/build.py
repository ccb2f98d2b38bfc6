"""From a model's name and arguments to a network."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from aiq_search.errors import InputError
from aiq_search.models.cnn import PER_STAGE, cnn, cnn_1d
from aiq_search.models.lenet import lenet_5, lenet_300_100
from aiq_search.models.mlp import mlp
from aiq_search.models.mobilenet import MOBILENET_STAGE, mobilenet_v2
from aiq_search.models.resnet import RESNET_STAGE, resnet
from aiq_search.suggest import did_you_mean
from aiq_search.user_code import NO_CODE, CodePolicy, check_call, is_reference, torchvision_model

__all__ = ["MODELS", "Architecture", "build_model", "check_argument_names", "check_model_name"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn,
    "cnn_1d": cnn_1d,
    "lenet_300_100": lenet_300_100,
    "lenet_5": lenet_5,
    "mlp": mlp,
    "mobilenet_v2": mobilenet_v2,
    "resnet": resnet,
}

# Arguments with a number behind them, one a layer or stage.
_NUMBERED = {
    "mlp": ("hidden",),
    "cnn": PER_STAGE,
    "cnn_1d": PER_STAGE,
    "mobilenet_v2": MOBILENET_STAGE,
    "resnet": RESNET_STAGE,
}

# What the data set decides, so that no file and no parameter may.
_GIVEN = ("input_shape", "classes")


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build a network again, in JSON types.

    Attributes:
        name: A key of ``MODELS`` or ``package.module:function``.
        arguments: What the function is called with, besides shape and classes.
        input_shape: Shape of one sample.
        classes: Number of outputs.
        code: Which code ``name`` may refer to; not part of the architecture itself.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, ...] = ()
    classes: int = 0
    code: CodePolicy = field(default=NO_CODE, compare=False, repr=False)

    def build(self) -> nn.Module:
        """Build the network with fresh weights from torch's current random state."""
        return build_model(self.name, self.arguments, self.input_shape, self.classes, self.code)

    def document(self) -> dict[str, Any]:
        """The architecture as a JSON document."""
        return {
            "name": self.name,
            "arguments": dict(self.arguments),
            "input_shape": list(self.input_shape),
            "classes": self.classes,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], code: CodePolicy = NO_CODE) -> Architecture:
        """The inverse of ``document``."""
        return cls(**{**document, "input_shape": tuple(document["input_shape"])}, code=code)


def check_model_name(name: str) -> None:
    """Check that a name can stand for a model; nothing is imported.

    Raises:
        InputError: It is neither a key of ``MODELS`` nor of the form ``package.module:function``.
    """
    if name not in MODELS and not is_reference(name):
        raise InputError(
            f"unknown model {name!r}; {did_you_mean(name, MODELS)} "
            "A model of your own is named as package.module:function."
        )


def _function(name: str, code: CodePolicy) -> Callable[..., nn.Module]:
    check_model_name(name)
    if name in MODELS:
        return MODELS[name]
    known = torchvision_model(name)
    if known is None:
        return code.load(name)
    code.check(name)
    from torchvision import models

    if known not in models.list_models():
        raise InputError(f"torchvision has no model {known!r}; {did_you_mean(known, models.list_models())}")
    return models.get_model_builder(known)  # type: ignore[no-any-return]


def check_argument_names(model: str, names: Iterable[str], code: CodePolicy = NO_CODE) -> None:
    """Check that a model takes arguments of these names.

    Args:
        model: A key of ``MODELS`` or ``package.module:function`` (then imported).
        names: Names of arguments.
        code: Which code may be imported.

    Raises:
        InputError: The model is unknown, may not be imported, or has no such argument.

    Example:
        >>> check_argument_names("lenet_5", ["conv3"])
        Traceback (most recent call last):
        aiq_search.errors.InputError: model 'lenet_5' takes no argument 'conv3'; did you mean "conv2"?
    """
    function = _function(model, code)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise InputError(f"model {model!r} is not a function with named arguments: {error}.") from None
    valid = [
        name
        for name, parameter in parameters.items()
        if name not in _GIVEN and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name in valid:
            continue
        if model in _NUMBERED:
            if re.fullmatch(rf"({'|'.join(_NUMBERED[model])})[1-9][0-9]*", name):
                continue
            valid = [*valid, *(f"{kind}{i}" for kind in _NUMBERED[model] for i in range(1, 10))]
        elif open_ended and name not in _GIVEN:
            continue
        raise InputError(f"model {model!r} takes no argument {name!r}; {did_you_mean(name, valid)}")


def build_model(
    name: str,
    arguments: Mapping[str, Any],
    input_shape: tuple[int, ...],
    classes: int,
    code: CodePolicy = NO_CODE,
) -> nn.Module:
    """Build a network with fresh weights from torch's current random state.

    Args:
        name: A key of ``MODELS``, ``torchvision.models:<model>``, which is given ``num_classes``, or
            ``package.module:function``, which is given ``input_shape`` and ``classes``.
        arguments: Keyword arguments besides.
        input_shape: Shape of one sample: (C, H, W) or (F,).
        classes: Number of outputs.
        code: Which code may be imported.

    Returns:
        A module on (N, *input_shape) float32 -> (N, classes) logits.

    Raises:
        InputError: The model is unknown, may not be imported, or does not take its arguments.
    """
    function = _function(name, code)
    check_argument_names(name, arguments, code)
    given = {"input_shape": tuple(input_shape), "classes": classes}
    if torchvision_model(name) is not None:
        given = {"num_classes": classes}
    given |= arguments
    check_call(name, function, given)
    model = function(**given)
    if not isinstance(model, nn.Module):
        raise InputError(f"{name} must return a torch.nn.Module, but returned {type(model).__name__}.")
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        _materialise(model, input_shape)
    return model


def _materialise(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Give lazy layers (``nn.LazyLinear``) their sizes: by a first forward pass."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # a batch norm must not learn from it
    with torch.no_grad():
        model(torch.zeros(2, *input_shape))
    for module, training in modes:
        module.training = training
