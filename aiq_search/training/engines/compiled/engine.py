"""The compiled engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiq_search.training.augment import Augmentation
from aiq_search.training.capture import CaptureOptions
from aiq_search.training.engines.compiled.network import CompiledNetwork
from aiq_search.training.engines.compiled.recognition import UnknownNetworkError, recognise
from aiq_search.training.engines.compiled.updates import adam, sgd
from aiq_search.training.evaluation import Evaluation, TensorSplit
from aiq_search.training.options import TrainingOptions

__all__ = ["CompiledEngine"]


class CompiledEngine:
    """Trains a network that is a sequence of known modules, on one core.

    The network's parameters are views of the array that the kernels change. Its numbers differ from torch's
    by rounding alone; for the same seed, on the same machine, they are the same bit for bit.

    Args:
        model: The network, on the CPU.
        options: How it is trained.
        split: What it learns from.
        capture: Which states an evaluation captures.

    Raises:
        UnknownNetworkError: The network is not such a sequence, or it is to be trained or measured as only
            torch can.
    """

    name = "compiled"
    reason: str | None = None

    def __init__(
        self,
        model: nn.Module,
        options: TrainingOptions,
        split: TensorSplit,
        capture: CaptureOptions = CaptureOptions(),  # noqa: B008 - frozen
    ) -> None:
        shape = tuple(split.inputs.shape[1:])
        stages = recognise(model, shape)
        self._measured = _measured_stages(model, [stage.name for stage in stages], capture)
        self._order = float(capture.order)
        if options.class_weights != "none":
            raise UnknownNetworkError(f"training.class_weights: {options.class_weights}")
        if options.augment.mixup:
            raise UnknownNetworkError(f"training.augment.mixup: {options.augment.mixup:g}")
        self.model = model
        self._options = options
        self._augment = Augmentation(options.augment, shape)
        largest = min(options.batch_size + 1, len(split))
        channels, height, width = (*shape, 1, 1)[:3]
        self._network = CompiledNetwork(
            model, stages, (channels, height, width), largest, split.scale.numpy(), split.shift.numpy()
        )
        # What the optimizer remembers, as long arrays as the parameters'; torch's optimizers are not used,
        # whose import alone takes a second.
        names = ("exp_avg", "exp_avg_sq") if options.optimizer != "sgd" else ("momentum_buffer",)
        self._memory = {name: np.zeros_like(self._network.parameters.values) for name in names}
        self._steps = 0

    def train(
        self, split: TensorSplit, batches: Sequence[Tensor], learning_rates: Sequence[float]
    ) -> list[float]:
        """As `Engine.train`."""
        raw, labels = _arrays(split.inputs), split.labels.numpy()
        losses = []
        for indices, rate in zip(batches, learning_rates, strict=True):
            learnt = raw, labels, indices.numpy()
            if self._augment.changes:
                changed = self._augment(split.inputs.index_select(0, indices))
                learnt = _arrays(changed), labels[indices.numpy()], np.arange(len(indices))
            losses.append(self._network.learn(*learnt, self._options.label_smoothing))
            if self._options.gradient_clipping is not None:
                self._shorten_gradient(self._options.gradient_clipping)
            self._step(rate)
        return losses

    def evaluate(self, split: TensorSplit, beta: float) -> Evaluation:
        """As `Engine.evaluate`."""
        raw, labels = _arrays(split.inputs), split.labels.numpy()
        loss, right, layers = self._network.measure(raw, labels, len(split), self._measured, self._order)
        return Evaluation.of(loss, right, len(split), layers, beta)

    def optimizer_state(self) -> dict[int, dict[str, Tensor]]:
        """As `Engine.optimizer_state`."""
        if self._steps == 0 or (self._options.optimizer == "sgd" and self._options.momentum == 0):
            return {}
        view = self._network.parameters.view
        steps = {} if self._options.optimizer == "sgd" else {"step": torch.tensor(float(self._steps))}
        return {
            index: {**steps, **{name: view(array, parameter) for name, array in self._memory.items()}}
            for index, parameter in enumerate(self.model.parameters())
        }

    def load_optimizer_state(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """As `Engine.load_optimizer_state`."""
        for index, parameter in enumerate(self.model.parameters()):
            for name, values in state.get(index, {}).items():
                if name == "step":
                    self._steps = int(values)
                else:
                    self._network.parameters.view(self._memory[name], parameter).copy_(values)

    def _shorten_gradient(self, largest: float) -> None:
        """Shorten the gradient to a norm, as torch does."""
        gradient = self._network.parameters.gradient
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
        gradient *= np.float32(min(1.0, largest / (norm + 1e-6)))

    def _step(self, learning_rate: float) -> None:
        options, parameters = self._options, self._network.parameters
        arrays = parameters.values, parameters.gradient, *self._memory.values()
        self._steps += 1
        if options.optimizer == "sgd":
            sgd(*arrays, learning_rate, options.momentum, options.weight_decay, options.nesterov)
        else:
            decoupled = options.optimizer == "adamw"
            adam(*arrays, self._steps, learning_rate, options.weight_decay, decoupled)


def _measured_stages(model: nn.Module, stages: Sequence[str], capture: CaptureOptions) -> frozenset[str]:
    """The names of the stages whose states are counted.

    Raises:
        UnknownNetworkError: What is to be captured are not outputs of hidden layers of the stages.
    """
    if capture.point != "after":
        raise UnknownNetworkError(f"objective.capture.point: {capture.point}")
    chosen = frozenset(capture.selected(model))
    if capture.by_default:
        chosen -= {stages[-1]}
    if other := sorted(chosen.difference(stages[:-1])):
        raise UnknownNetworkError(f"states of {other[0] or 'the whole network'} (objective.capture.layers)")
    return chosen


def _arrays(inputs: Tensor) -> NDArray[Any]:
    """Samples as the kernels read them: flat, uint8 or float32."""
    return (inputs if inputs.dtype == torch.uint8 else inputs.float()).reshape(-1).numpy()
