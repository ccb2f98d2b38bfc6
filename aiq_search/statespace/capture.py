"""Capture of firing states from a running model, by forward hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aiq_search.errors import InputError
from aiq_search.statespace.counter import StateCounter, StateCounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from torch.utils.hooks import RemovableHandle

__all__ = ["StateCapture"]

_LAYER_TYPES = (nn.Linear, nn.modules.conv._ConvNd)


class StateCapture:
    """Counts the states of a model's layers while the model runs inside a ``with`` block.

    Args:
        model: The model; it is not changed, and hooks of others are left alone.
        layers: Names of the layers as in ``model.named_modules()``; by default every Linear and convolution
            but the output layer.
        point: ``"after"`` for the output of each layer, ``"before"`` for its input.
        order: Order of the entropy.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str] | None = None, *, point: str = "after", order: float = 1.0
    ) -> None:
        self._model = model
        self._order = order
        self._point = point
        named = dict(model.named_modules())
        if layers is None:
            layers = [name for name, module in named.items() if isinstance(module, _LAYER_TYPES)][:-1]
        unknown = [name for name in layers if name not in named]
        if unknown:
            raise InputError(f"The model has no layer {unknown[0]!r}; it has {', '.join(filter(None, named))}.")
        if not layers:
            raise InputError("The model has no hidden Linear or convolution; name the layers to measure.")
        self._modules = {name: named[name] for name in layers}
        self._counters: dict[str, StateCounter] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> StateCapture:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, name: str) -> Any:  # noqa: ANN401
        def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            values = output if self._point == "after" else inputs[0]
            axis = -1 if isinstance(module, nn.Linear) else values.ndim - len(module.kernel_size) - 1
            counter = self._counters.get(name)
            if counter is None:
                counter = self._counters[name] = StateCounter(values.shape[axis], order=self._order)
            counter.update(values, axis)

        return count

    def reset(self) -> None:
        """Forget everything counted; the hooks stay."""
        for counter in self._counters.values():
            counter.reset()

    def compute(self) -> Mapping[str, StateCounts]:
        """The states of every layer, by its name."""
        for name in self._modules:
            if name not in self._counters:
                raise InputError(f"Layer {name!r} never ran. Run the model inside the with block.")
        return {name: self._counters[name].compute() for name in self._modules}
