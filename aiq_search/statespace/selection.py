"""Selects the layers of a model to measure, and finds the axis of their neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from aiq_search.errors import InputError
from aiq_search.suggest import did_you_mean

__all__ = ["LayerSelector", "known_selectors", "neuron_axis", "pick_tensor", "select_layers", "takes"]

LayerSelector: TypeAlias = str | type[nn.Module] | Callable[[str, nn.Module], bool]
"""A name, a pattern of names (``encoder.*``), the name of a class (``LSTM``) or the class, or a function of
name and module."""

_CONVOLUTION = nn.modules.conv._ConvNd
_CHANNELS_FIRST = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
_NEURONS_LAST = (
    nn.Linear,
    nn.Bilinear,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.Embedding,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its name, as in ``named_modules``; a module of two names has the first.

    The wrapper that ``torch.compile`` puts around a module leaves no trace in the names.
    """
    return {
        ".".join(part for part in name.split(".") if part != "_orig_mod"): module
        for name, module in model.named_modules()
    }


def default_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every Linear and convolution, the output layer still among them.

    Multi-head attention never calls the Linear that holds its output projection; the attention module is
    measured instead, since its output is that projection's.
    """
    inside_attention = {
        id(part)
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
        for part in module.modules()
        if part is not module
    }
    return {
        name: module
        for name, module in named_layers(model).items()
        if isinstance(module, (nn.Linear, _CONVOLUTION, nn.MultiheadAttention))
        and id(module) not in inside_attention
    }


def select_layers(
    model: nn.Module, selectors: LayerSelector | Iterable[LayerSelector]
) -> dict[str, nn.Module]:
    """Modules that any of the selectors takes, by name, in the order of ``named_modules``.

    Raises:
        InputError: A selector takes no module.
    """
    named = named_layers(model)
    if isinstance(selectors, str) or not isinstance(selectors, Iterable):
        selectors = [selectors]
    taken: set[str] = set()
    for selector in selectors:
        matches = {name for name, module in named.items() if _takes(selector, name, module)}
        if not matches:
            hint = did_you_mean(selector, known_selectors(model)) if isinstance(selector, str) else ""
            raise InputError(f"The model has no layer that {selector!r} selects. {hint}".rstrip())
        taken |= matches
    return {name: module for name, module in named.items() if name in taken}


def takes(model: nn.Module, selector: LayerSelector) -> bool:
    """Whether a selector takes any module of a model."""
    return any(_takes(selector, name, module) for name, module in named_layers(model).items())


def known_selectors(model: nn.Module) -> list[str]:
    """The names that take a module of a model: those of its modules, and those of their classes."""
    named = named_layers(model)
    return [*filter(None, named), *dict.fromkeys(type(module).__name__ for module in named.values())]


def _takes(selector: LayerSelector, name: str, module: nn.Module) -> bool:
    if isinstance(selector, str):
        kinds = type(module).__mro__
        classes = (k.__name__ for k in kinds if issubclass(k, nn.Module) and k is not nn.Module)
        return name == selector or fnmatchcase(name, selector) or selector in classes
    if isinstance(selector, type):
        return isinstance(module, selector)
    return bool(selector(name, module))


def neuron_axis(module: nn.Module, values: torch.Tensor) -> int:
    """The axis of ``values``, a module's output or input, on which its neurons are.

    Raises:
        InputError: The module's kind does not determine it.
    """
    if isinstance(module, _CONVOLUTION):
        return values.ndim - len(module.kernel_size) - 1
    if isinstance(module, _NEURONS_LAST) or values.ndim <= 2:
        return -1
    if isinstance(module, _CHANNELS_FIRST):
        return 1
    raise InputError(
        f"The axis of the neurons among shape {tuple(values.shape)} is not known for a "
        f"{type(module).__name__}. Give axis=, 1 for channels first or -1 for neurons last."
    )


def pick_tensor(result: Any, which: int | str) -> torch.Tensor:  # noqa: ANN401
    """The tensor among a module's outputs: position in a tuple, or key in a mapping.

    Raises:
        InputError: There is no tensor.
    """
    if isinstance(result, torch.Tensor):
        return result
    if isinstance(result, PackedSequence):
        return result.data
    chosen = result
    if isinstance(result, Mapping):
        if isinstance(which, int):
            which = list(result)[which] if which < len(result) else str(which)
        chosen = result.get(which)
    elif isinstance(result, (tuple, list)) and isinstance(which, int) and -len(result) <= which < len(result):
        chosen = result[which]
    if isinstance(chosen, (torch.Tensor, PackedSequence)):
        return chosen if isinstance(chosen, torch.Tensor) else chosen.data
    raise InputError(
        f"Expected a tensor as output {which!r}, but got {type(chosen).__name__} from a "
        f"{type(result).__name__}. Say with output= which of its outputs to measure."
    )
