"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from aiq_search.datasets import Dataset, split_off
from aiq_search.errors import AiqError, InputError
from aiq_search.models import Architecture
from aiq_search.training.capture import CaptureOptions
from aiq_search.training.engines import Engine, make_engine
from aiq_search.training.evaluation import Evaluation, TensorSplit
from aiq_search.training.measures import Measures
from aiq_search.training.options import TrainingOptions
from aiq_search.training.schedule import learning_rates

__all__ = ["DivergedError", "EpochResult", "PartResult", "TrainingRun"]

# Every network is measured on the same samples, so that their values can be compared.
_VALIDATION_SAMPLES_SEED = 0


class DivergedError(AiqError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch: trained, then measured on the validation split.

    Attributes:
        epoch: From 1.
        train_loss: Mean cross entropy over the epoch's batches, in nats.
        validation: What the network does on the validation split after the epoch.
        watched: Likewise, on other splits by name. No choice depends on it.
    """

    epoch: int
    train_loss: float
    validation: Evaluation
    watched: Mapping[str, Evaluation] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """The numbers by the names under which they are reported."""
        return _metrics(self.train_loss, self.validation) | {
            f"watch/{split}/{name}": value
            for split, measured in self.watched.items()
            for name, value in _numbers(measured).items()
        }


@dataclass(frozen=True)
class PartResult:
    """A part of an epoch: trained so far, then measured on some validation samples.

    Attributes:
        samples: Learnt from so far, those of the epochs before included.
        train_loss: Mean cross entropy over the epoch's batches so far, in nats.
        validation: What the network does on some samples of the validation split.
    """

    samples: int
    train_loss: float
    validation: Evaluation

    def metrics(self) -> dict[str, float]:
        """The numbers by the names under which they are reported."""
        return _metrics(self.train_loss, self.validation)


class TrainingRun:
    """One network trained on one data set with one seed, epoch by epoch.

    The seed fixes the initial weights, the order of the samples, their augmentation and the dropout, so that
    the same engine, machine and versions give the same numbers bit for bit. It sets torch's global random
    state.

    Attributes:
        model: The network, on ``device``.
        engine: What trains and measures it; ``engine.name`` is torch or compiled.
        history: The epochs run so far.
        best: The chosen epoch: of the lowest validation loss so far, the earliest if several.
        best_weights: The network's state at that epoch.

    Args:
        architecture: The network.
        dataset: The data.
        options: How it is trained.
        seed: Fixes everything random.
        beta: Weight of accuracy in aIQ.
        measures: What is measured besides accuracy, and which number is the accuracy in aIQ.
        capture: Which states are captured.
        weights: A state dict to train on from, in place of initial weights.
        watch: Splits that are measured after every epoch, too: train, test. With label noise, the training
            split has the randomised labels, and the test split the true ones.

    Raises:
        InputError: The device is not there, the architecture is refused, or the engine cannot train it.
    """

    def __init__(
        self,
        architecture: Architecture,
        dataset: Dataset,
        options: TrainingOptions,
        *,
        seed: int,
        beta: float = 2.0,
        measures: Measures = Measures(),  # noqa: B008 - frozen
        capture: CaptureOptions = CaptureOptions(),  # noqa: B008 - frozen
        weights: Mapping[str, Tensor] | None = None,
        watch: Sequence[str] = (),
    ) -> None:
        self.architecture = architecture
        self.dataset = dataset
        self.options = options
        self.beta = beta
        self.measures = measures
        self.capture = capture
        self.device = _device(options)
        torch.manual_seed(seed)
        self.shuffle = torch.Generator().manual_seed(seed)
        self.model = architecture.build().to(self.device)
        if weights is not None:
            self.model.load_state_dict(weights)
        self.train_split = TensorSplit.of(dataset.train, dataset.normalization, self.device)
        self.validation_split = TensorSplit.of(dataset.validation, dataset.normalization, self.device)
        self.engine: Engine = make_engine(self.model, options, self.train_split, self.device, capture)
        self._watched = {name: self._tensors(name) for name in watch}
        self.history: list[EpochResult] = []
        self.best: EpochResult | None = None
        self.best_weights: dict[str, Tensor] = {}
        self._progress: _Progress | None = None
        self._samples: TensorSplit | None = None  # of the validation split, for parts of an epoch

    @property
    def epoch(self) -> int:
        """Number of whole epochs run so far."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether the last epoch was run or the patience is used up."""
        if self.epoch >= self.options.epochs:
            return True
        patience = self.options.patience
        return patience is not None and self.best is not None and self.epoch - self.best.epoch >= patience

    def run_epoch(self) -> EpochResult:
        """Train for one epoch, or what is left of it, then measure on the validation split.

        Returns:
            The epoch's numbers.

        Raises:
            DivergedError: A loss is NaN or infinite.
        """
        train_loss = self._train(1.0)
        self._progress = None
        validation = self._measured(self.validation_split)
        watched = {name: self._evaluated(split) for name, split in self._watched.items()}
        result = EpochResult(self.epoch + 1, train_loss, validation, watched)
        self.history.append(result)
        if self.best is None or validation.loss < self.best.validation.loss:
            self.best = result
            self.best_weights = {name: t.detach().clone() for name, t in self.model.state_dict().items()}
        return result

    def run_part(self, share: float, samples: int) -> PartResult:
        """Train until a share of the current epoch is done, then measure on some validation samples.

        What follows is not changed by it: an epoch run in parts gives the numbers of the epoch run at once,
        bit for bit. ``run_epoch`` ends the epoch.

        Args:
            share: Of the epoch's batches, above 0 and below 1; at least one batch is learnt from.
            samples: How many samples of the validation split are measured on, at most. They are drawn in
                proportion to the classes, and are the same for every network.

        Returns:
            The numbers so far.

        Raises:
            DivergedError: A loss is NaN or infinite.
            ValueError: The share or the number of samples is out of its range.
        """
        if not 0 < share < 1 or samples < 1:
            raise ValueError(f"0 < share < 1 and samples >= 1 must hold, but got {share} and {samples}.")
        train_loss = self._train(share)
        validation = self._measured(self.part_of_validation(samples))
        seen = self.epoch * len(self.train_split) + (self._progress.samples if self._progress else 0)
        return PartResult(seen, train_loss, validation)

    @property
    def under_way(self) -> bool:
        """Whether an epoch has begun and not ended."""
        return self._progress is not None

    def has_passed(self, share: float) -> bool:
        """Whether more than a share of the current epoch is done, so that ``run_part`` cannot stop there."""
        return self._progress is not None and len(self._progress.losses) > self._progress.count(share)

    def part_of_validation(self, number: int) -> TensorSplit:
        """So many samples of the validation split, each class in proportion; the same for every network."""
        if number >= len(self.validation_split):
            return self.validation_split
        if self._samples is None or len(self._samples) != number:
            random = np.random.default_rng(_VALIDATION_SAMPLES_SEED)
            _, chosen = split_off(self.dataset.validation, number, random, what="validation")
            self._samples = TensorSplit.of(chosen, self.dataset.normalization, self.device)
        return self._samples

    def evaluate_best(self, split: str) -> Evaluation:
        """Measure the network of the chosen epoch on the split train, validation or test."""
        tensors = self._tensors(split)
        with self.best_model():
            return self._measured(tensors, split)

    @contextmanager
    def best_model(self) -> Iterator[nn.Module]:
        """The network of the chosen epoch; ``model`` has its weights for so long."""
        now = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.best_weights)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(now)

    def random_state(self) -> dict[str, Tensor]:
        """All random states, and how far the current epoch has come, as tensors."""
        progress = self._progress
        return {
            "cpu": torch.get_rng_state(),
            "shuffle": self.shuffle.get_state() if progress is None else progress.shuffle,
            **({"cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {}),
            **({} if progress is None else {"losses": torch.tensor(progress.losses, dtype=torch.float64)}),
        }

    def load_random_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``random_state``."""
        self.shuffle.set_state(state["shuffle"])
        if "losses" in state:
            self._progress = _Progress(self._batches(), state["shuffle"], state["losses"].tolist())
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def _train(self, share: float) -> float:
        """Train until a share of the epoch is done; the mean loss over the epoch so far."""
        if self._progress is None:
            before = self.shuffle.get_state()
            self._progress = _Progress(self._batches(), before, [])
        progress = self._progress
        batches, done = progress.until(share), len(progress.losses)
        rates = learning_rates(self.options, self.epoch, len(progress.batches))[done : done + len(batches)]
        progress.losses += self.engine.train(self.train_split, batches, rates)
        train_loss = sum(progress.losses) / max(1, progress.samples)
        self._check_finite("training", train_loss)
        return train_loss

    def _measured(self, split: TensorSplit, which: str = "validation") -> Evaluation:
        measured = self._evaluated(split)
        self._check_finite(which, measured.loss)
        return measured

    def _evaluated(self, split: TensorSplit) -> Evaluation:
        measured = self.engine.evaluate(split, self.beta)
        return self.measures.added_to(measured, self.model, split, self.beta)

    def _tensors(self, name: str) -> TensorSplit:
        """A split on the device."""
        if name == "train":
            return self.train_split
        if name == "validation":
            return self.validation_split
        return TensorSplit.of(self.dataset.split(name), self.dataset.normalization, self.device)

    def _batches(self) -> list[Tensor]:
        """Indices of the epoch's batches: every sample once, in an order of its own."""
        order = torch.randperm(len(self.train_split), generator=self.shuffle).to(self.device)
        batches = list(torch.split(order, self.options.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            # Batch norm cannot learn from a single sample: it joins the batch before.
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def _check_finite(self, which: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"the {which} loss is {loss} in epoch {self.epoch + 1}")


@dataclass
class _Progress:
    """An epoch under way.

    Attributes:
        batches: Of the whole epoch.
        shuffle: The random state from which their order was drawn.
        losses: Summed over samples, of each batch learnt from so far.
    """

    batches: list[Tensor]
    shuffle: Tensor
    losses: list[float]

    @property
    def samples(self) -> int:
        """Learnt from so far in this epoch."""
        return sum(len(batch) for batch in self.batches[: len(self.losses)])

    def until(self, share: float) -> list[Tensor]:
        """The batches still to be learnt from until a share of the epoch is done."""
        return self.batches[len(self.losses) : self.count(share)]

    def count(self, share: float) -> int:
        """How many batches a share of the epoch is, at least one."""
        return max(1, round(share * len(self.batches)))


def _metrics(train_loss: float, measured: Evaluation) -> dict[str, float]:
    return {
        **_numbers(measured),
        "train_loss": train_loss,
        **{f"efficiency/{name}": value for name, value in measured.layers.items()},
    }


def _numbers(measured: Evaluation) -> dict[str, float]:
    return {
        "aiq": measured.aiq,
        "accuracy": measured.accuracy,
        "efficiency": measured.efficiency,
        "loss": measured.loss,
        **measured.measures,
    }


def _device(options: TrainingOptions) -> torch.device:
    device = _chosen_device(options)
    if options.cuda_graphs and device.type != "cuda":
        raise InputError(
            "training.cuda_graphs is true, but the network trains on a CPU; set it to false, or give the "
            "trial a GPU (resources.gpu)."
        )
    return device


def _chosen_device(options: TrainingOptions) -> torch.device:
    if options.engine == "compiled":
        if options.device == "cuda":
            raise InputError(
                "training.engine is compiled, which runs on a processor core, but training.device is cuda; "
                "set the device to cpu, or the engine to torch."
            )
        return torch.device("cpu")
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "training.device is cuda, but the trial sees no GPU: set resources.gpu above 0, "
            "or training.device to cpu."
        )
    return torch.device(options.device)
