"""What passes between the driver and a worker: an assignment out, reports back, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset

__all__ = ["Assignment", "MakeWorker", "Report", "Worker"]


@dataclass(frozen=True)
class Assignment:
    """One network to train.

    Attributes:
        key: The trial's key, as text.
        architecture: Document of a ``models.Architecture``.
        training: Fields of ``training.TrainingOptions``.
        seed: Fixes the training.
        beta: Weight of accuracy in aIQ.
        test: Whether the chosen epoch is measured on the test split too.
        checkpoint: Where the unfinished trial is kept.
        weights: Where the finished network's weights go.
        minutes: The trial fails when it takes longer.
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

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """The inverse of ``to_json``."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Report:
    """What a worker reports after an epoch, or at a trial's end.

    Attributes:
        epochs: Number and metrics of each epoch reported: the last one; after a restart, all.
        chosen: The epoch of the lowest validation loss so far.
        size: parameters, parameters_weights and macs.
        done: Whether the trial is over.
        test: test/aiq, test/accuracy, test/efficiency, where asked for.
        engine: What trained and measured, see ``training.engines``.
        reason: Why it failed.
        traceback: Of a user's exception.
    """

    epochs: tuple[tuple[int, Mapping[str, float]], ...] = ()
    chosen: int | None = None
    size: Mapping[str, int] = field(default_factory=dict)
    done: bool = False
    test: Mapping[str, float] = field(default_factory=dict)
    engine: str | None = None
    reason: str | None = None
    traceback: str | None = None

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of ``to_json``."""
        document = json.loads(text)
        document["epochs"] = tuple((number, metrics) for number, metrics in document["epochs"])
        return cls(**document)


class Worker(Protocol):
    """Answers one assignment after the other with reports."""

    def begin(self, assignment: Assignment) -> None:
        """Take the next assignment."""

    def step(self) -> Report:
        """Train one epoch; the report says whether the trial is over.

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
