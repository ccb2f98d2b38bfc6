"""What passes between the driver and a worker: an assignment out, reports back, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset
    from aiq_search.training.measures import AccuracyName

__all__ = ["RUNG_SAMPLES", "Assignment", "MakeWorker", "Report", "Rung", "Worker"]

# How many validation samples a network is measured on at a rung within its first epoch.
RUNG_SAMPLES = 2000


@dataclass(frozen=True)
class Assignment:
    """One network to train.

    Attributes:
        key: The trial's key, as text.
        architecture: Document of a ``models.Architecture``.
        training: Fields of ``training.TrainingOptions``.
        seed: Fixes the training.
        beta: Weight of accuracy in aIQ.
        accuracy: Which number is the accuracy in aIQ.
        measures: What is measured beside accuracy; see ``training.measures``.
        capture: Fields of ``training.capture.CaptureOptions``.
        test: Whether the chosen epoch is measured on the test split too.
        int8: Whether the network of the chosen epoch is measured in eight bits too.
        costs: Of activation_bytes and latency_ms, those that are measured before training.
        checkpoint: Where the unfinished trial is kept.
        weights: Where the finished network's weights go.
        minutes: The trial fails when it takes longer.
        rungs: Shares of the first epoch at which the network is measured, too.
        watch: Splits that are measured after every epoch, too, see ``DatasetOptions``.
    """

    key: str
    architecture: Mapping[str, Any]
    training: Mapping[str, Any]
    seed: int
    beta: float
    test: bool
    checkpoint: str
    weights: str
    minutes: float | None = None
    rungs: tuple[float, ...] = ()
    accuracy: AccuracyName = "accuracy"
    measures: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()
    int8: bool = False
    costs: tuple[str, ...] = ()
    capture: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """The inverse of ``to_json``."""
        document = json.loads(text)
        for name in ("rungs", "measures", "watch", "costs"):
            document[name] = tuple(document[name])
        return cls(**document)


@dataclass(frozen=True)
class Rung:
    """A network within its first epoch.

    Attributes:
        share: Of the epoch.
        samples: How many it has learnt from.
        metrics: As of an epoch, but measured on ``RUNG_SAMPLES`` samples of the validation split.
    """

    share: float
    samples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """What a worker reports at a rung, after an epoch, or at a trial's end.

    Attributes:
        epochs: Number and metrics of each epoch reported: the last one; after a restart, all.
        chosen: The epoch of the lowest validation loss so far.
        size: parameters, parameters_weights, macs, costs and ceiling/<layer>, see ``study.metrics.ONCE``.
        done: Whether the trial is over.
        final: What is measured at a trial's end, where asked for: test/aiq, test/accuracy, test/efficiency
            and the measures; int8/accuracy, and with test test/int8/accuracy.
        engine: What trained and measured, see ``training.engines``.
        engine_reason: Why torch, where the compiled engine would have been taken.
        reason: Why it failed.
        traceback: Of a user's exception.
        rung: Where the network is within its first epoch.
        seconds: How long that took the worker, since its last report of the trial.
    """

    epochs: tuple[tuple[int, Mapping[str, float]], ...] = ()
    chosen: int | None = None
    size: Mapping[str, float] = field(default_factory=dict)
    done: bool = False
    final: Mapping[str, float] = field(default_factory=dict)
    engine: str | None = None
    engine_reason: str | None = None
    reason: str | None = None
    traceback: str | None = None
    rung: Rung | None = None
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of ``to_json``."""
        document = json.loads(text)
        document["epochs"] = tuple((number, metrics) for number, metrics in document["epochs"])
        document["rung"] = document["rung"] and Rung(**document["rung"])
        return cls(**document)


class Worker(Protocol):
    """Answers one assignment after the other with reports."""

    def begin(self, assignment: Assignment) -> None:
        """Take the next assignment."""

    def step(self) -> Report:
        """Train until the next rung or the end of the epoch; the report says whether the trial is over.

        Raises:
            OSError: The place where the study keeps its files is full or cannot be used.
        """

    def put_aside(self) -> None:
        """Keep an unfinished trial, so that another worker can continue it.

        Raises:
            OSError: It could not be kept.
        """


# Creates a worker, from the data, the torch threads of a trial, and its GPUs.
MakeWorker: TypeAlias = "Callable[[Dataset, int, float], Worker]"
