"""What a running study tells the world: typed events, and the protocol of those who listen.

The events are plain, frozen and made of JSON types, so that a listener may store, send or show
them. Search owns them; tracking and the terminal view implement ``StudyListener``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from aiq_search.study.record import TrialRecord

__all__ = [
    "EpochEnded",
    "Event",
    "HistoryListener",
    "Phase",
    "PhaseStarted",
    "RungReached",
    "StudyEnded",
    "StudyListener",
    "StudyStarted",
    "TrialEnded",
    "TrialKey",
    "TrialStarted",
    "TrialState",
    "trial_name",
]


class Phase(StrEnum):
    """What a trial is for."""

    EXPLORE = "explore"
    CONFIRM = "confirm"
    REFERENCE = "reference"


class TrialState(StrEnum):
    """Where a trial stands; the last three are final."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


@dataclass(frozen=True)
class TrialKey:
    """The identity of a trial for ever.

    >>> str(TrialKey("digits-20260101-120000-abcd", Phase.EXPLORE, 7))
    'digits-20260101-120000-abcd/explore/7'
    >>> TrialKey.parse("digits-20260101-120000-abcd/explore/7").number
    7
    """

    study: str
    phase: Phase
    number: int

    def __str__(self) -> str:
        return f"{self.study}/{self.phase}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> TrialKey:
        """The key that is written as ``text``.

        Raises:
            ValueError: It is no key.
        """
        study, phase, number = text.rsplit("/", 2)
        return cls(study, Phase(phase), int(number))


def trial_name(key: TrialKey, origin: int | None, replicate: int | None) -> str:
    """Name of a trial's run: ``trial-0042``, ``trial-0042-seed-1`` or ``confirm-0042-seed-3``.

    Of the reference phase, ``reference-0003`` was proposed for its accuracy, and ``reference-seed-12`` is a
    fresh seed of the reference network.
    """
    if key.phase is Phase.EXPLORE:
        return f"trial-{key.number:04d}" + ("" if replicate is None else f"-seed-{replicate}")
    if key.phase is Phase.REFERENCE:
        return f"reference-{key.number:04d}" if replicate is None else f"reference-seed-{replicate}"
    return f"confirm-{origin:04d}-seed-{replicate}"


@dataclass(frozen=True)
class StudyStarted:
    """A driver took the study up: ``resumed`` if it had been before."""

    study: str
    space: str
    document: Mapping[str, Any]  # study.json: the space as used, its fingerprint, command, versions, seeds
    resumed: bool
    time: float


@dataclass(frozen=True)
class PhaseStarted:
    """A phase with ``total`` trials begins, ``done`` of them finished before."""

    study: str
    phase: Phase
    total: int
    done: int
    time: float


@dataclass(frozen=True)
class TrialStarted:
    """A configuration is trained from now on (again, after an interruption, if ``resumed``).

    A confirmation names the exploring trial whose configuration it repeats (``origin``) and which of
    the fresh seeds it is (``replicate``, from 0); so does a seed of the reference network, which has no
    origin, and a cell of a grid that is trained on several seeds. A trial that runs a failed one of its phase
    again names that one (``retry_of``).
    """

    key: TrialKey
    params: Mapping[str, Any]  # dotted names of the space
    seed: int
    config_hash: str
    time: float
    origin: int | None = None
    replicate: int | None = None
    resumed: bool = False
    retry_of: int | None = None

    @property
    def name(self) -> str:
        """Name of the trial's run, see ``trial_name``."""
        return trial_name(self.key, self.origin, self.replicate)


@dataclass(frozen=True)
class RungReached:
    """A trial has come to a rung within its first epoch.

    ``share`` of the epoch is done, ``samples`` were learnt from. ``metrics`` has aiq, accuracy, efficiency
    and loss, on a part of the validation split: they serve to compare trials at the same rung, nothing else.
    """

    key: TrialKey
    share: float
    samples: int
    metrics: Mapping[str, float]
    time: float


@dataclass(frozen=True)
class EpochEnded:
    """One epoch of a trial was trained and validated.

    ``metrics`` has aiq, accuracy, efficiency, loss, train_loss and efficiency/<layer>; epochs count
    from 1.
    """

    key: TrialKey
    epoch: int
    metrics: Mapping[str, float]
    time: float


@dataclass(frozen=True)
class TrialEnded:
    """A trial reached its final state.

    ``metrics`` are those of the chosen epoch (lowest validation loss), with parameters,
    parameters_weights and macs, and on confirmations test/aiq, test/accuracy, test/efficiency. It is
    empty where no epoch ended.
    """

    key: TrialKey
    state: TrialState
    time: float
    value: float | None = None  # the objective at the chosen epoch
    epoch: int | None = None  # the chosen epoch
    epochs: int = 0  # how many were run
    reason: str | None = None  # why PRUNED or FAIL, in one line
    traceback: str | None = None  # of a user's exception
    collapsed: bool = False  # a layer with zero entropy: COMPLETE with value 0
    engine: str | None = None  # what trained and measured: torch or compiled
    engine_reason: str | None = None  # why torch, where compiled would have been taken
    metrics: Mapping[str, float] = field(default_factory=dict)
    feasible: bool | None = None


@dataclass(frozen=True)
class StudyEnded:
    """The driver lets go of the study.

    ``reason`` is finished, interrupted or failed; ``champion`` is the document of
    ``aiq best --format json``, absent where nothing is feasible; ``finalists`` are the exploring trials
    among which it was chosen on fresh seeds; ``verdicts`` are the documents that say how each came out;
    ``comparison`` is that of the champion with the reference network, where there is one.
    """

    study: str
    reason: str
    time: float
    counts: Mapping[str, int]  # by TrialState
    champion: Mapping[str, Any] | None = None
    message: str | None = None
    finalists: Sequence[int] = ()
    verdicts: Sequence[Mapping[str, Any]] = ()
    comparison: Mapping[str, Any] | None = None


Event: TypeAlias = (
    StudyStarted | PhaseStarted | TrialStarted | RungReached | EpochEnded | TrialEnded | StudyEnded
)


class StudyListener(Protocol):
    """One who wants to know what happens in a study.

    Called in the driver's only thread, in order: it must return at once and must not raise.
    """

    def on_event(self, event: Event) -> None:
        """Take note of one event."""


@runtime_checkable
class HistoryListener(StudyListener, Protocol):
    """A listener that also wants to know of the trials before its time, as a view of the progress does."""

    def on_history(self, records: Sequence[TrialRecord]) -> None:
        """Take note of the trials so far; called once, after ``StudyStarted``."""
