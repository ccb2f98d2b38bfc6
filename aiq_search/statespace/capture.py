"""Capture of firing states from a running model, by forward hooks."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from aiq_search.errors import InputError
from aiq_search.statespace.counter import Backend, StateCounter
from aiq_search.statespace.selection import (
    LayerSelector,
    default_layers,
    neuron_axis,
    pick_tensor,
    select_layers,
)

if TYPE_CHECKING:
    from types import TracebackType

    from torch.utils.hooks import RemovableHandle

    from aiq_search.statespace.counts import StateCounts

__all__ = ["StateCapture"]


class StateCapture:
    """Counts the states of a model's layers while the model runs inside a ``with`` block.

    The block adds forward hooks to the layers and removes exactly those when it ends. States are read when
    the layer returns, so a later operation in place changes nothing. What an activation checkpoint computes
    again in the backward pass is not counted again. A model under ``torch.compile`` runs uncompiled inside
    the block, because compiled code calls no hook that was added later.

    By default every ``nn.Linear`` and convolution is measured except the output layer: the Linear or
    convolution called last in the first complete forward pass. (Order of calls, not of registration: a head
    may be registered first, and an auxiliary one last.) For ``nn.MultiheadAttention`` the module itself is
    measured in place of its output projection. A part of a network, such as one transformer block, has no
    output layer: name its layers there.

    Args:
        model: The model. Nothing of it is changed for good.
        layers: Which layers: names as in ``named_modules``, patterns of names, classes of modules or their
            names, or functions of name and module; one or several.
        exclude: Which layers to leave out of ``layers`` or of the default.
        point: ``"after"`` for the output of each layer, ``"before"`` for its first input.
        axis: The neurons' axis where the kind of module does not determine it; one, or one a layer by name.
        output: Which output of a layer that returns several: a position or a key; one, or one a layer.
        order: Order of the entropy in the results; 1 is the paper's.
        backend: As in `StateCounter`.
        budget: Bytes that the counts of each layer may take.
        over_budget: ``"error"`` or ``"sample"``, as in `StateCounter`.
        seed: Seed of the sample.

    Raises:
        InputError: A selector takes no layer, or there is none to measure.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> with StateCapture(model) as capture:
    ...     _ = model(torch.ones(5, 4))
    >>> capture.compute()["0"].observations
    5
    """

    def __init__(
        self,
        model: nn.Module,
        layers: LayerSelector | Iterable[LayerSelector] | None = None,
        *,
        exclude: LayerSelector | Iterable[LayerSelector] = (),
        point: Literal["after", "before"] = "after",
        axis: int | Mapping[str, int] | None = None,
        output: int | str | Mapping[str, int | str] = 0,
        order: float = 1.0,
        backend: Backend = "torch",
        budget: int | None = None,
        over_budget: Literal["error", "sample"] = "error",
        seed: int = 0,
    ) -> None:
        if point not in ("after", "before"):
            raise InputError(f"point must be 'after' or 'before', but is {point!r}.")
        self.point = point
        self._model = model
        self._axis = axis
        self._output = output
        self._options: dict[str, Any] = {
            "order": order, "backend": backend, "budget": budget, "over_budget": over_budget, "seed": seed
        }  # fmt: skip
        chosen = default_layers(model) if layers is None else select_layers(model, layers)
        left_out = select_layers(model, exclude) if exclude != () else {}
        self._modules = {name: module for name, module in chosen.items() if name not in left_out}
        self._output_layer = _OutputLayer(awaited=layers is None)
        if not self._modules or (layers is None and len(chosen) < 2):
            raise InputError(_nothing_to_measure(model, by_default=len(self._modules) == len(chosen)))
        # One of those that are left out may be the output layer, in place of which no other is.
        self._left_out = {} if layers is not None else {n: m for n, m in chosen.items() if n in left_out}
        self._counters: dict[str, StateCounter] = {}
        self._handles: dict[str, RemovableHandle] = {}
        self._root_handle: RemovableHandle | None = None
        self._lock = threading.Lock()
        self._eager = contextlib.ExitStack()
        StateCounter(1, **self._options)  # a wrong option is an error now, not with the first batch

    def __enter__(self) -> StateCapture:
        if self._handles:
            raise InputError("This capture is already active; use one with block at a time.")
        if _is_compiled(self._model):
            self._eager.enter_context(torch.compiler.set_stance("force_eager"))
        for name, module in self._modules.items():
            self._handles[name] = self._register(name, module)
        for name, module in self._left_out.items():
            self._handles[name] = module.register_forward_hook(partial(self._note, name))
        if self._output_layer.awaited:
            root = getattr(self._model, "_orig_mod", self._model)
            self._root_handle = root.register_forward_hook(self._first_pass_is_over)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in [*self._handles.values(), self._root_handle]:
            if handle is not None:
                handle.remove()
        self._handles.clear()
        self._root_handle = None
        self._eager.close()

    def _register(self, name: str, module: nn.Module) -> RemovableHandle:
        def after(module: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:  # noqa: ANN401
            self._count(name, module, result)

        def before(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self._count(name, module, inputs[0] if inputs else next(iter(keywords.values()), None))

        if self.point == "after":
            return module.register_forward_hook(after)
        return module.register_forward_pre_hook(before, with_kwargs=True)

    def _note(self, name: str, *_: object) -> None:
        """A layer that is left out ran."""
        with self._lock:
            self._output_layer.called(name)

    def _count(self, name: str, module: nn.Module, result: Any) -> None:  # noqa: ANN401
        if torch._C._current_graph_task_id() != -1:
            return  # an activation checkpoint computes the layer again, inside the backward pass
        try:
            which = self._output.get(name, 0) if isinstance(self._output, Mapping) else self._output
            values = pick_tensor(result, which)
            axis = self._axis.get(name) if isinstance(self._axis, Mapping) else self._axis
            if axis is None:
                axis = neuron_axis(module, values)
            with self._lock:
                self._output_layer.called(name)
                counter = self._counters.get(name)
                if counter is None:
                    counter = StateCounter(values.shape[axis], **self._options)
                    self._counters[name] = counter
                counter.update(values, axis)
        except InputError as error:
            raise InputError(f"Layer {name!r}: {error}") from error
        except IndexError:
            raise InputError(
                f"Layer {name!r}: axis {axis} is not one of shape {tuple(values.shape)}."
            ) from None

    def _first_pass_is_over(self, module: nn.Module, inputs: Any, result: Any) -> None:  # noqa: ANN401
        with self._lock:
            name = self._output_layer.name
            if name is None or not self._output_layer.awaited:
                return
            self._output_layer.awaited = False
            self._counters.pop(name, None)
            for handle in (self._handles.pop(name, None), self._root_handle):
                if handle is not None:
                    handle.remove()

    @property
    def layers(self) -> Mapping[str, nn.Module]:
        """The measured modules by name, without the output layer as far as it is known."""
        return {name: module for name, module in self._modules.items() if name != self.output_layer}

    @property
    def output_layer(self) -> str | None:
        """Name of the layer that is left out as the output layer.

        Until a forward pass of the whole model is over, this is the layer that ran last.
        """
        return self._output_layer.name

    @property
    def counters(self) -> Mapping[str, StateCounter]:
        """The accumulators by layer: to save, or to merge with those of another process."""
        return {name: counter for name, counter in self._counters.items() if name != self.output_layer}

    def reset(self) -> None:
        """Forget everything counted; the hooks stay."""
        for counter in self._counters.values():
            counter.reset()

    def compute(self) -> dict[str, StateCounts]:
        """The states of every layer, by its name; counting may continue afterwards.

        Raises:
            InputError: A layer never ran, or ran on no observation.
        """
        results = {}
        for name in self.layers:
            counter = self._counters.get(name)
            if counter is None:
                raise InputError(
                    f"Layer {name!r} never ran. Run the model inside the with block, or leave the layer out "
                    f"with exclude={name!r}."
                )
            try:
                results[name] = counter.compute()
            except InputError as error:
                raise InputError(f"Layer {name!r}: {error}") from error
        return results


class _OutputLayer:
    """The layer that is left out by default: the one called last in the first pass of the whole model.

    Args:
        awaited: Whether there is one to find. It is found when `awaited` is set to False; the layers that are
            called afterwards change nothing.
    """

    def __init__(self, awaited: bool) -> None:
        self.awaited = awaited
        self.name: str | None = None

    def called(self, name: str) -> None:
        """Note that a layer was called."""
        if self.awaited:
            self.name = name


def _is_compiled(model: nn.Module) -> bool:
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and importing it takes seconds
        return False
    from torch._dynamo.eval_frame import OptimizedModule

    return any(
        isinstance(module, OptimizedModule) or module._compiled_call_impl is not None
        for module in model.modules()
    )


def _nothing_to_measure(model: nn.Module, by_default: bool) -> str:
    if not by_default:
        return "No layer is left to measure: exclude takes all that layers selects."
    if isinstance(model, torch.jit.ScriptModule) or not any(True for _ in model.children()):
        return (
            f"A {type(model).__name__} has no modules to measure. A network loaded from .pt2 or TorchScript "
            "has lost its modules: build it from its class and load its weights."
        )
    return (
        "The model has no hidden Linear or convolution (the output layer is left out). Say with layers= "
        "which of its modules to measure."
    )
