"""The engine that trains any network: torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from aiq_search.training.engines.torch_internals import leave_compiler_out, step_of
from aiq_search.training.evaluation import Evaluation, TensorSplit, evaluate
from aiq_search.training.options import TrainingOptions

__all__ = ["TorchEngine"]


class TorchEngine:
    """Trains with torch, on the device on which the network is.

    Args:
        model: The network.
        options: How it is trained.
        split: What it learns from.
    """

    name = "torch"

    def __init__(self, model: nn.Module, options: TrainingOptions, split: TensorSplit) -> None:
        self.model = model
        self._optimizer = _optimizer(model, options)
        self._step = step_of(self._optimizer)

    def train(self, split: TensorSplit, batches: Iterable[Tensor], learning_rate: float) -> list[float]:
        """As `Engine.train`."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self.model.train()
        losses = []
        for indices in batches:
            inputs, labels = split.batch(indices)
            loss = functional.cross_entropy(self.model(inputs), labels)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._step()
            losses.append(loss.detach() * len(labels))
        # Read only now: a GPU computes on while the next batches are asked for.
        return torch.stack(losses).tolist() if losses else []

    def evaluate(self, split: TensorSplit, beta: float) -> Evaluation:
        """As `Engine.evaluate`."""
        return evaluate(self.model, split, beta=beta)

    def optimizer_state(self) -> dict[int, dict[str, Tensor]]:
        """As `Engine.optimizer_state`."""
        return {
            index: {name: torch.as_tensor(value) for name, value in state.items() if value is not None}
            for index, state in self._optimizer.state_dict()["state"].items()
        }

    def load_optimizer_state(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """As `Engine.load_optimizer_state`."""
        now = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**now, "state": {k: dict(v) for k, v in state.items()}})


def _optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    leave_compiler_out()
    # The fused kernels matter: a narrow network's step is mostly overhead.
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=options.learning_rate,
            momentum=options.momentum,
            nesterov=options.nesterov and options.momentum > 0,
            weight_decay=options.weight_decay,
            fused=True,
        )
    constructor = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    return constructor(
        model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
    )
