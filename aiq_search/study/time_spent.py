"""Where the time of a search went, in seconds of slots, and what the search cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from aiq_search.study.document import StudyDocument
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.record import TrialRecord
from aiq_search.words import counted

__all__ = ["Cost", "SearchClock", "TimeSpent", "cost_of", "time_spent"]

# If no trial runs for so many seconds, no search does: it was interrupted, and resumed later.
_INTERRUPTED = 60.0


@dataclass(frozen=True)
class TimeSpent:
    """Seconds of all slots together. A slot trains one trial at a time.

    Attributes:
        slots: How many trials were in training at once, at most.
        kept: Training of exploring trials that completed.
        pruned: Of those that were stopped early.
        failed: Of trials that failed, of all phases.
        confirming: Of confirmations.
        reference: Of the reference network and of what was proposed for its accuracy.
        waiting: Slots had no trial, or a trial waited for its worker.
        start: From the study's creation until each slot trained: Ray's start, and the workers'.
        end: From the last trial's end until the command's; 0 where that is not known.
    """

    slots: int
    kept: float
    pruned: float
    failed: float
    confirming: float
    reference: float
    waiting: float
    start: float
    end: float

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(seconds for _, seconds in self.parts())

    @property
    def wall(self) -> float:
        """Seconds on the clock, without those in which the search was interrupted."""
        return self.total / self.slots

    def parts(self) -> list[tuple[str, float]]:
        """What the time went to, with its seconds; failures and a reference network only where there are."""
        parts = [
            ("exploring, kept", self.kept),
            ("exploring, pruned", self.pruned),
            ("failed", self.failed),
            ("confirming", self.confirming),
            ("reference network", self.reference),
            ("waiting", self.waiting),
            ("start", self.start),
            ("end", self.end),
        ]
        rare = ("failed", "reference network")
        return [(name, seconds) for name, seconds in parts if seconds or name not in rare]

    def __str__(self) -> str:
        total = self.total or 1.0
        parts = [f"{name} {seconds:,.0f} s ({seconds / total:.0%})" for name, seconds in self.parts()]
        return f"Where the time of {counted(self.slots, 'slot')} went: {', '.join(parts)}."


def time_spent(document: StudyDocument, records: Iterable[TrialRecord]) -> TimeSpent | None:
    """Where the time of a study went; None before a trial has ended.

    Args:
        document: The study's.
        records: Its trials, of all phases.
    """
    trained = _trained(records)
    if not trained:
        return None
    spans = _spans(trained)
    slots = _most_at_once(spans)
    busy = {record.key: end - begin for record, (begin, end) in zip(trained, spans, strict=True)}
    # Between its start and its first batch a trial waits for its worker, which the first of a slot starts.
    training = {record.key: _seconds(record) for record in trained}
    delays = [busy[record.key] - training[record.key] for record in trained]
    first, last = spans[0][0], max(end for _, end in spans)
    idle = slots * (last - first - _interrupted(spans)) - sum(busy.values())
    closed = document.closed

    def of(phase: Phase | None, *states: TrialState) -> float:
        return sum(training[r.key] for r in trained if r.state in states and phase in (None, r.key.phase))

    return TimeSpent(
        slots=slots,
        kept=of(Phase.EXPLORE, TrialState.COMPLETE),
        pruned=of(Phase.EXPLORE, TrialState.PRUNED),
        failed=of(None, TrialState.FAIL),
        confirming=of(Phase.CONFIRM, TrialState.COMPLETE),
        reference=of(Phase.REFERENCE, TrialState.COMPLETE),
        waiting=max(0.0, idle) + sum(delays[slots:]),
        start=slots * max(0.0, first - document.created) + sum(delays[:slots]),
        end=0.0 if closed is None else slots * max(0.0, closed - last),
    )


class SearchClock:
    """What a search had taken when a trial ended.

    Args:
        document: The study's.
        records: Its trials, of all phases.
    """

    def __init__(self, document: StudyDocument, records: Iterable[TrialRecord]) -> None:
        trained = _trained(records)
        self._created = document.created
        self._interruptions = _interruptions(_spans(trained))
        by_end = sorted(trained, key=lambda record: record.ended or 0.0)
        cores = document.space.resources.cpu
        spent = accumulate(cores * _seconds(record) for record in by_end)
        self._spent = {record.key: seconds for record, seconds in zip(by_end, spent, strict=True)}

    def seconds(self, record: TrialRecord) -> float:
        """Seconds from the study's creation to a trial's end, in which the search was not interrupted."""
        ended = record.ended or 0.0
        away = sum(end - begin for begin, end in self._interruptions if end <= ended)
        return max(0.0, ended - self._created - away)

    def core_seconds(self, record: TrialRecord) -> float:
        """Core-seconds of all training that had ended with this trial; 0 for one that was not trained."""
        return self._spent.get(record.key, 0.0)


@dataclass(frozen=True)
class Cost:
    """What a search cost.

    Attributes:
        trainings: How many networks were trained, in all phases; known results do not count.
        epochs: For how many epochs together.
        hours: On the clock, without those in which the search was interrupted.
        core_hours: Hours of training, times ``resources.cpu``.
        gpu_hours: Likewise, times ``resources.gpu``.
    """

    trainings: int
    epochs: int
    hours: float
    core_hours: float
    gpu_hours: float


def cost_of(document: StudyDocument, records: Iterable[TrialRecord]) -> Cost:
    """What a search has cost so far.

    Args:
        document: The study's.
        records: Its trials, of all phases.
    """
    trained = _trained(records)
    spent = time_spent(document, trained)
    hours = sum(map(_seconds, trained)) / 3600
    return Cost(
        trainings=len(trained),
        epochs=sum(record.epochs for record in trained),
        hours=0.0 if spent is None else spent.wall / 3600,
        core_hours=hours * document.space.resources.cpu,
        gpu_hours=hours * document.space.resources.gpu,
    )


def _most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many spans of time overlap at most."""
    changes = sorted([change for begin, end in spans for change in ((begin, 1), (end, -1))])
    most = now = 0
    for _, change in changes:  # at the same time ends come first
        now += change
        most = max(most, now)
    return max(1, most)


def _interrupted(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds for which no search ran, between spans in the order of their beginnings."""
    return sum(end - begin for begin, end in _interruptions(spans))


def _interruptions(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """When no search ran, between spans in the order of their beginnings."""
    found, until = [], float("inf")
    for begin, end in spans:
        if begin - until > _INTERRUPTED:
            found.append((until, begin))
        until = end if until == float("inf") else max(until, end)
    return found


def _trained(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials that were trained and have ended, in the order of their beginnings."""
    trained = [r for r in records if r.copied_from is None and r.started and r.ended]
    return sorted(trained, key=lambda r: r.started or 0.0)


def _spans(trained: Iterable[TrialRecord]) -> list[tuple[float, float]]:
    return [(record.started or 0.0, record.ended or 0.0) for record in trained]


def _seconds(record: TrialRecord) -> float:
    """How long a trial trained."""
    busy = (record.ended or 0.0) - (record.started or 0.0)
    return busy if record.seconds is None else min(busy, record.seconds)
