"""The training loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from aiq_search.datasets import Dataset
from aiq_search.errors import AiqError, InputError
from aiq_search.models import Architecture
from aiq_search.training.evaluation import Evaluation, TensorSplit, evaluate
from aiq_search.training.options import TrainingOptions

__all__ = ["DivergedError", "EpochResult", "TrainingRun"]


class DivergedError(AiqError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch: trained, then measured on the validation split.

    Attributes:
        epoch: From 1.
        train_loss: Mean cross entropy over the epoch's batches, in nats.
        validation: What the network does on the validation split after the epoch.
    """

    epoch: int
    train_loss: float
    validation: Evaluation

    def metrics(self) -> dict[str, float]:
        """The numbers by the names under which they are reported."""
        measured = self.validation
        return {
            "aiq": measured.aiq,
            "accuracy": measured.accuracy,
            "efficiency": measured.efficiency,
            "loss": measured.loss,
            "train_loss": self.train_loss,
            **{f"efficiency/{name}": value for name, value in measured.layers.items()},
        }


class TrainingRun:
    """One network trained on one data set with one seed, epoch by epoch.

    The seed fixes the initial weights, the order of the samples and the dropout, so that the same
    machine and versions give the same numbers bit for bit. It sets torch's global random state.

    Attributes:
        model: The network, on ``device``.
        history: The epochs run so far.
        best: The chosen epoch: of the lowest validation loss so far, the earliest if several.
        best_weights: The network's state at that epoch.

    Args:
        architecture: The network.
        dataset: The data.
        options: How it is trained.
        seed: Fixes everything random.
        beta: Weight of accuracy in aIQ.

    Raises:
        InputError: The device is not there, or the architecture is refused.
    """

    def __init__(
        self,
        architecture: Architecture,
        dataset: Dataset,
        options: TrainingOptions,
        *,
        seed: int,
        beta: float = 2.0,
    ) -> None:
        self.architecture = architecture
        self.dataset = dataset
        self.options = options
        self.beta = beta
        self.device = _device(options.device)
        torch.manual_seed(seed)
        self.shuffle = torch.Generator().manual_seed(seed)
        self.model = architecture.build().to(self.device)
        self.optimizer = _optimizer(self.model, options)
        self.train_split = TensorSplit.of(dataset.train, dataset.normalization, self.device)
        self.validation_split = TensorSplit.of(dataset.validation, dataset.normalization, self.device)
        self.history: list[EpochResult] = []
        self.best: EpochResult | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def epoch(self) -> int:
        """Number of epochs run so far."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether the last epoch was run or the patience is used up."""
        if self.epoch >= self.options.epochs:
            return True
        patience = self.options.patience
        return patience is not None and self.best is not None and self.epoch - self.best.epoch >= patience

    def run_epoch(self) -> EpochResult:
        """Train for one epoch, then measure on the validation split.

        Returns:
            The epoch's numbers.

        Raises:
            DivergedError: A loss is NaN or infinite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.model.train()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for indices in self._batches():
            inputs, labels = self.train_split.batch(indices)
            loss = functional.cross_entropy(self.model(inputs), labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.detach() * len(labels)
        train_loss = total.item() / len(self.train_split)
        self._check_finite("training", train_loss)

        validation = evaluate(self.model, self.validation_split, beta=self.beta)
        self._check_finite("validation", validation.loss)
        result = EpochResult(self.epoch + 1, train_loss, validation)
        self.history.append(result)
        if self.best is None or validation.loss < self.best.validation.loss:
            self.best = result
            self.best_weights = copy.deepcopy(self.model.state_dict())
        return result

    def evaluate_best(self, split: str) -> Evaluation:
        """Measure the network of the chosen epoch on the split train, validation or test."""
        model = self.architecture.build().to(self.device)
        model.load_state_dict(self.best_weights)
        tensors = TensorSplit.of(self.dataset.split(split), self.dataset.normalization, self.device)
        return evaluate(model, tensors, beta=self.beta)

    def _learning_rate(self) -> float:
        base = self.options.learning_rate
        if self.options.schedule == "cosine":
            return base * (1 + math.cos(math.pi * self.epoch / self.options.epochs)) / 2
        return base

    def _batches(self) -> Iterator[Tensor]:
        """Indices of the epoch's batches: every sample once, in an order of its own."""
        order = torch.randperm(len(self.train_split), generator=self.shuffle).to(self.device)
        batches = list(torch.split(order, self.options.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            # Batch norm cannot learn from a single sample: it joins the batch before.
            batches[-2:] = [torch.cat(batches[-2:])]
        yield from batches

    def _check_finite(self, which: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"the {which} loss is {loss} in epoch {self.epoch + 1}")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "training.device is cuda, but the trial sees no GPU: set resources.gpu above 0, "
            "or training.device to cpu."
        )
    return torch.device(name)


def _optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
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
