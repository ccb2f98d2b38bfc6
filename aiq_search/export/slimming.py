"""A network without the neurons that tell nothing: always off, always on, or in sync with another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from aiq_search.datasets import Dataset, Normalization, Split
from aiq_search.errors import InputError
from aiq_search.export.measurement import one_thread
from aiq_search.models import Architecture
from aiq_search.models.layers import ACTIVATIONS
from aiq_search.statespace import EfficiencyReport, LayerReport, measure
from aiq_search.training.evaluation import TensorSplit

__all__ = ["Removal", "Slimmed", "logits_of", "slim"]

# Training samples whose activations show what other neurons know of one.
_SAMPLES = 2000
_BATCH = 500
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_WEIGHTED = (nn.Linear, *_CONVOLUTIONS)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# What works on each channel by itself: between two layers, it may lose one.
_BY_CHANNEL: tuple[type[nn.Module], ...] = (
    *_NORMS,
    *ACTIVATIONS.values(),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.Flatten, nn.Dropout, nn.Identity),
)

State = dict[str, Tensor]


@dataclass(frozen=True)
class Removal:
    """A neuron that was removed.

    Attributes:
        layer: Name of its layer.
        neuron: Its number in the layer as it was.
        why: always off, always on, or in sync with which neuron.
        unexplained: Root mean square of what the other neurons cannot tell of its activation, over the
            training samples: 0 where the function stays the same.
    """

    layer: str
    neuron: int
    why: str
    unexplained: float


@dataclass(frozen=True, eq=False)
class Slimmed:
    """A network without some neurons.

    Attributes:
        architecture: With smaller widths.
        weights: Its state dict.
        removed: In the order of removal.
        kept: Neurons that tell nothing either, whose removal would have cost too much accuracy.
    """

    architecture: Architecture
    weights: State
    removed: tuple[Removal, ...]
    kept: int


def slim(
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    dataset: Dataset,
    normalization: Normalization,
    *,
    max_drop: float,
) -> Slimmed:
    """Remove the neurons whose state is constant, or known from another's, over the training split.

    What the other neurons of its layer know of a neuron's activation (least squares, with a constant) is
    folded into the next layer's weights and biases; a batch norm without a bias before it takes the constant
    into its mean. Zeros around a convolution's input are no constant, so that there is none in front of one
    that has them. The filter of a depthwise convolution goes with its channel. A neuron stays where accuracy
    on the validation split would fall by more than ``max_drop`` in all.

    Args:
        architecture: The network; its hidden layers are named as the arguments that give their widths, or
            those of a ``cnn`` by their stages.
        weights: Its state dict.
        dataset: What it was trained on.
        normalization: Of the inputs.
        max_drop: Accuracy on the validation split that all removals together may cost.

    Raises:
        InputError: The network is no sequence of layers that are named so.
    """
    with one_thread():
        work = _Work(architecture, dict(weights), dataset, normalization)
        report = work.report()
        allowed = work.accuracy() - max_drop
        removed: list[Removal] = []
        kept = 0
        for layer in report.layers:
            if work.argument(layer.name) is None:
                continue  # a depthwise convolution, whose filters go with the channels that they are given
            alive = list(range(layer.neurons))
            for neuron, why in _candidates(layer):
                if len(alive) == 1:
                    break
                tried, unexplained = work.without(layer.name, alive.index(neuron))
                if tried.accuracy() < allowed:
                    kept += 1
                    continue
                work = tried
                alive.remove(neuron)
                removed.append(Removal(layer.name, neuron, why, unexplained))
        return Slimmed(work.architecture, work.state, tuple(removed), kept)


def _candidates(layer: LayerReport) -> Iterator[tuple[int, str]]:
    for neuron in layer.always_off:
        yield neuron, "always off"
    for neuron in layer.always_on:
        yield neuron, "always on"
    for group in layer.groups:
        first, *others = group.neurons
        for neuron in others:
            how = "opposed to" if (neuron in group.opposed) != (first in group.opposed) else "in sync with"
            yield neuron, f"{how} neuron {first}"


def _is_depthwise(layer: nn.Module) -> bool:
    """Whether each channel has a filter of its own."""
    return isinstance(layer, _CONVOLUTIONS) and layer.groups == layer.in_channels == layer.out_channels


def logits_of(network: nn.Module, split: Split, normalization: Normalization) -> Tensor:
    """Logits, (N, classes), of a network in evaluation mode for a split."""
    tensors = TensorSplit.of(split, normalization, torch.device("cpu"))
    with torch.inference_mode():
        return torch.cat([network(tensors.normalised(raw)) for raw in torch.split(tensors.inputs, _BATCH)])


@dataclass(eq=False)
class _Work:
    """A network while it is made smaller."""

    architecture: Architecture
    state: State
    dataset: Dataset
    normalization: Normalization

    def __post_init__(self) -> None:
        try:
            self.network = self.architecture.build()
            self.network.load_state_dict(self.state)
        except RuntimeError:
            raise InputError(
                f"{self.architecture.name}: its layers do not have the widths that its arguments of their "
                "names give, so that none can be made smaller."
            ) from None
        self.network.eval()

    def report(self) -> EfficiencyReport:
        """States of the hidden layers over the training split."""
        self._check()
        tensors = TensorSplit.of(self.dataset.train, self.normalization, torch.device("cpu"))
        return measure(self.network, (tensors.normalised(raw) for raw in torch.split(tensors.inputs, _BATCH)))

    def accuracy(self) -> float:
        """On the validation split."""
        split = self.dataset.validation
        answers = logits_of(self.network, split, self.normalization).argmax(1)
        return float((answers == torch.tensor(split.labels)).double().mean())

    def argument(self, name: str) -> str | None:
        """The argument that gives a layer's width: of its name, or of the stage of a ``cnn``."""
        if name in self.architecture.arguments:
            return name
        stage = re.fullmatch(r"conv([0-9]+)", name)
        by_stage = self.architecture.name in ("cnn", "cnn_1d") and stage is not None
        return f"width{stage[1]}" if by_stage and stage is not None else None

    def _check(self) -> None:
        name = self.architecture.name
        if type(self.network) is not nn.Sequential:
            raise InputError(f"{name} is no sequence of layers, which alone can be slimmed.")
        given = self.architecture.arguments
        if given.get("residual") is True:
            raise InputError(
                f"{name}: a residual connection adds a layer's input to its output, so that neurons cannot "
                "go from one of them alone; networks with residual: true cannot be slimmed."
            )
        if "grouped" in given.values():
            raise InputError(
                f"{name}: the groups of a grouped convolution have to stay of one size; networks with "
                "convolution: grouped cannot be slimmed."
            )
        for part, module in self.network.named_children():
            if not isinstance(module, (*_WEIGHTED, *_BY_CHANNEL)):
                raise InputError(f"{name}: {part} is a {type(module).__name__}, which cannot be slimmed.")
        for part, layer in self._layers()[:-1]:
            if self.argument(part) is None and not _is_depthwise(layer):
                raise InputError(
                    f"{name}: its layer {part} has no argument of its name that gives its width, so that it "
                    "cannot be made smaller."
                )
            if self.argument(part) is not None and getattr(layer, "groups", 1) > 1:
                raise InputError(f"{name}: its layer {part} has groups, so that it cannot be made smaller.")

    def _layers(self) -> list[tuple[str, Any]]:
        return [(name, each) for name, each in self.network.named_children() if isinstance(each, _WEIGHTED)]

    def _following(self, name: str) -> str:
        """The layer that mixes a layer's channels."""
        layers = self._layers()
        place = [each for each, _ in layers].index(name)
        return next(
            each
            for each, layer in layers[place + 1 :]
            if not (_is_depthwise(layer) and self.argument(each) is None)
        )

    def _bias(self, following: str) -> tuple[str, int] | None:
        """Which numbers of the state take a constant in front of a layer, and their sign; None if none do."""
        layer: Any = self.network.get_submodule(following)
        if isinstance(layer, _CONVOLUTIONS) and layer.padding != (0,) * len(layer.padding):
            return None
        if layer.bias is not None:
            return f"{following}.bias", 1
        names = [each for each, _ in self.network.named_children()]
        behind = names[names.index(following) + 1]
        norm = isinstance(self.network.get_submodule(behind), _NORMS)
        return (f"{behind}.running_mean", -1) if norm else None

    def without(self, name: str, neuron: int) -> tuple[_Work, float]:
        """The same without a neuron, and how much of its activation the others do not know."""
        following = self._following(name)
        numbers = self._activations(following, len(self.state[f"{name}.weight"]))
        others = torch.cat([numbers[:, :neuron], numbers[:, neuron + 1 :]], 1)
        constant = torch.full((len(others), 1), float(self._bias(following) is not None), dtype=torch.float64)
        known = torch.cat([others, constant], 1)
        target = numbers[:, neuron : neuron + 1]
        factors = torch.linalg.lstsq(known, target, driver="gelsd").solution
        unexplained = float((target - known @ factors).square().mean().sqrt())
        state = self._removed(name, following, neuron, factors[:-1, 0], float(factors[-1, 0]))
        width = len(state[f"{name}.weight"])
        arguments = {**self.architecture.arguments, str(self.argument(name)): width}
        smaller = replace(self.architecture, arguments=arguments)
        return _Work(smaller, state, self.dataset, self.normalization), unexplained

    def _activations(self, following: str, neurons: int) -> Tensor:
        """What the next layer is given of each neuron, (samples and places, neurons)."""
        few = Split(self.dataset.train.inputs[:_SAMPLES], self.dataset.train.labels[:_SAMPLES])
        seen: list[Tensor] = []
        hook = self.network.get_submodule(following).register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0].reshape(len(inputs[0]), neurons, -1))
        )
        try:
            logits_of(self.network, few, self.normalization)
        finally:
            hook.remove()
        return torch.cat(seen).transpose(1, 2).reshape(-1, neurons).double()

    def _removed(self, name: str, following: str, neuron: int, factors: Tensor, constant: float) -> State:
        """The state dict without a neuron, with what is known of it folded into the next layer."""
        state = dict(self.state)
        weight = state[f"{following}.weight"]
        channels = len(state[f"{name}.weight"])
        parts = weight.double().reshape(len(weight), channels, -1)
        own = parts[:, neuron : neuron + 1]
        rest = torch.cat([parts[:, :neuron], parts[:, neuron + 1 :]], 1) + own * factors[None, :, None]
        shape = (len(weight), channels - 1, *weight.shape[2:]) if weight.ndim > 2 else (len(weight), -1)
        state[f"{following}.weight"] = rest.reshape(shape).float()
        bias = self._bias(following)
        if bias is not None:
            numbers, sign = bias
            state[numbers] = (state[numbers].double() + sign * constant * own.sum((1, 2))).float()
        modules = [each for each, _ in self.network.named_children()]
        between = modules[modules.index(name) : modules.index(following)]
        for key, tensor in self.state.items():
            if key.rpartition(".")[0] in between and tensor.ndim:
                state[key] = torch.cat([tensor[:neuron], tensor[neuron + 1 :]])
        return state
