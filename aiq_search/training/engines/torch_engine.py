"""The engine that trains any network: torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from aiq_search.training.augment import Augmentation, Mixing
from aiq_search.training.capture import CaptureOptions
from aiq_search.training.engines.cuda_graph import CudaGraph, GraphedStep, RecordStep
from aiq_search.training.engines.torch_internals import leave_compiler_out, step_of
from aiq_search.training.evaluation import Evaluation, TensorSplit, evaluate
from aiq_search.training.options import TrainingOptions

__all__ = ["TorchEngine", "balanced_weights"]

_CHANNELS = 8
_NEVER_FALLING = (nn.ReLU, nn.Tanh, nn.Sigmoid)


class TorchEngine:
    """Trains with torch, on the device on which the network is.

    Args:
        model: The network.
        options: How it is trained.
        split: What it learns from.
        capture: Which states an evaluation captures.
        reason: Why it is this engine, where another was wanted.
        record: How a training step is captured, with ``options.cuda_graphs``.
    """

    name = "torch"

    def __init__(
        self,
        model: nn.Module,
        options: TrainingOptions,
        split: TensorSplit,
        capture: CaptureOptions = CaptureOptions(),  # noqa: B008 - frozen
        reason: str | None = None,
        record: RecordStep = CudaGraph,
    ) -> None:
        self.model = model
        self._capture = capture
        self.reason = reason
        self._options = options
        self._augment = Augmentation(options.augment, tuple(split.inputs.shape[1:]))
        self._mix = Mixing(options.augment.mixup)
        self._weights: Tensor | None = None  # of the classes, whose number the logits show
        self._layout = torch.contiguous_format
        if split.labels.device.type == "cpu" and _gains_from_channels_last(model):
            self._layout = torch.channels_last
        self._lay_out(self._layout)
        self._learner = _pooling_first(model)
        self._rate: float | Tensor = options.learning_rate
        if options.cuda_graphs:  # a graph reads the step size from memory, where it is a 32-bit number
            self._rate = torch.tensor(options.learning_rate, device=split.labels.device)
        self._optimizer = _optimizer(model, options, self._rate)
        self._update = step_of(self._optimizer)
        self._record = record
        self._graphed: tuple[TensorSplit, GraphedStep] | None = None

    def train(
        self, split: TensorSplit, batches: Sequence[Tensor], learning_rates: Sequence[float]
    ) -> list[float]:
        """As `Engine.train`."""
        self.model.train()
        losses = []
        for indices, rate in zip(batches, learning_rates, strict=True):
            self._set_rate(rate)
            batch = self._drawn(split, indices)
            if self._options.cuda_graphs:
                loss = self._graphed_step(split)(batch, len(indices))
            else:
                loss = self._step(split, batch)
            losses.append(loss * len(indices))
        # Read only now: a GPU computes on while the next batches are asked for.
        return torch.stack(losses).tolist() if losses else []

    def _set_rate(self, rate: float) -> None:
        if isinstance(self._rate, Tensor):
            self._rate.fill_(rate)
        else:
            self._rate = rate
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate

    def _drawn(self, split: TensorSplit, indices: Tensor) -> dict[str, Tensor]:
        """What a step learns from, with all that is drawn at random on the CPU."""
        batch = {"indices": indices}
        if self._augment.changes:
            batch["images"] = self._augment(split.inputs.index_select(0, indices))
        share = self._mix.draw()
        if share is not None:
            batch["share"] = share.to(indices.device)
        return batch

    def _graphed_step(self, split: TensorSplit) -> GraphedStep:
        """The step of a split, whose place in memory is a graph's."""
        if self._graphed is None or self._graphed[0] is not split:
            step = GraphedStep(partial(self._step, split), self._options.batch_size, self._record)
            self._graphed = split, step
        return self._graphed[1]

    def _step(self, split: TensorSplit, batch: Mapping[str, Tensor]) -> Tensor:
        """Learn from a batch; its mean loss. Nothing of it waits for the device."""
        loss = self._loss(split, batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._options.gradient_clipping is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._options.gradient_clipping)
        self._update()
        return loss.detach()

    def _loss(self, split: TensorSplit, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean loss of a batch."""
        raw, labels = batch.get("images"), split.labels.index_select(0, batch["indices"])
        if raw is None:
            raw = split.inputs.index_select(0, batch["indices"])
        inputs, loss = self._mix(split.normalised(raw), labels, self._cross_entropy, batch.get("share"))
        logits = self._learner(inputs)
        if self._options.class_weights == "balanced" and self._weights is None:
            self._weights = balanced_weights(split.labels, logits.shape[1])
        return loss(logits)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, labels, weight=self._weights, label_smoothing=self._options.label_smoothing
        )

    def evaluate(self, split: TensorSplit, beta: float) -> Evaluation:
        """As `Engine.evaluate`."""
        # In torch's usual layout, in which others measure the network: the same numbers, to the last bit.
        self._lay_out(torch.contiguous_format)
        try:
            return evaluate(self.model, split, beta=beta, capture=self._capture)
        finally:
            self._lay_out(self._layout)

    def optimizer_state(self) -> dict[int, dict[str, Tensor]]:
        """As `Engine.optimizer_state`."""
        return {
            index: {name: torch.as_tensor(value) for name, value in state.items() if value is not None}
            for index, state in self._optimizer.state_dict()["state"].items()
        }

    def load_optimizer_state(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """As `Engine.load_optimizer_state`."""
        parameters = list(self.model.parameters())
        # The fused optimizers expect a parameter and what they remember of it in the same layout.
        loaded = {
            index: {
                name: torch.empty_like(parameters[index]).copy_(value)
                if value.shape == parameters[index].shape
                else value
                for name, value in values.items()
            }
            for index, values in state.items()
        }
        now = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**now, "state": loaded})
        self._graphed = None  # a graph knows where the state was

    def _lay_out(self, layout: torch.memory_format) -> None:
        if self._layout != torch.contiguous_format:
            self.model.to(memory_format=layout)


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """The weight of each class: samples / (classes * samples of the class); 0 of one without samples.

    Example:
        >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 2)
        tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp(min=1)), 0.0).float()


def _pooling_first(model: nn.Module) -> nn.Module:
    """The network with max pooling before an activation that never falls: the same numbers from less work."""
    if type(model) is not nn.Sequential or model._forward_hooks or model._forward_pre_hooks:
        return model
    order = list(model)
    for place, (first, second) in enumerate(itertools.pairwise(order)):
        never_falls = type(first) in _NEVER_FALLING or (type(first) is nn.ELU and first.alpha >= 0)
        if never_falls and type(second) is nn.MaxPool2d and not second.return_indices:
            order[place : place + 2] = second, first
    return nn.Sequential(*order)


def _gains_from_channels_last(model: nn.Module) -> bool:
    """Whether a network trains faster on a CPU with the channels of a pixel next to each other.

    Measured on LeNet-5: 1.2 to 1.7 times as fast from 8 channels on, slower below. A module of the user's own
    may rely on the usual layout.
    """
    modules = list(model.modules())
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    sequence = all(type(module).__module__.startswith("torch.nn.modules") for module in modules)
    return sequence and bool(convolutions) and min(layer.out_channels for layer in convolutions) >= _CHANNELS


def _optimizer(
    model: nn.Module, options: TrainingOptions, learning_rate: float | Tensor
) -> torch.optim.Optimizer:
    leave_compiler_out()
    # The fused kernels matter: a narrow network's step is mostly overhead.
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=learning_rate,
            momentum=options.momentum,
            nesterov=options.nesterov and options.momentum > 0,
            weight_decay=options.weight_decay,
            fused=True,
        )
    constructor = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    return constructor(
        model.parameters(),
        lr=learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
        capturable=options.cuda_graphs,
    )
