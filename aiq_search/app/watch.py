"""Watching a study that someone else's driver runs: its events, read from what it has written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from aiq_search.app.remote import AnyStudy
from aiq_search.study import Event, Phase, PhaseStarted, StudyEnded, StudyStarted, TrialEnded
from aiq_search.tracking.outbox import event_id
from aiq_search.tracking.reconcile import events_of

__all__ = ["watch_events"]


def watch_events(study: AnyStudy, every: float = 2.0) -> Iterator[Event]:
    """The events of a study so far, then those to come, until no driver runs it.

    Args:
        study: From its folder, or from MLflow.
        every: Seconds between looks.

    Yields:
        Each event once. The phases are told anew when the past has been told, so that a listener's clock
        starts with the present.
    """
    told: set[str] = set()
    phases: set[Phase] = set()
    first = True
    while True:
        running = study.is_running  # before looking: what comes after is seen by the next look
        done: Counter[Phase] = Counter()
        for event in events_of(study):
            if isinstance(event, TrialEnded):
                done[event.key.phase] += 1
            if event_id(event) in told:
                continue
            told.add(event_id(event))
            phase = None if isinstance(event, StudyStarted) else event.key.phase  # type: ignore[union-attr]
            if phase is not None and phase not in phases:
                phases.add(phase)
                yield PhaseStarted(study.id, phase, _total(study, phase), 0, time.time())
            yield event
        if not running:
            yield _ended(study)
            return
        if first and done:
            phase = Phase.CONFIRM if Phase.CONFIRM in phases else Phase.EXPLORE
            yield PhaseStarted(study.id, phase, _total(study, phase), done[phase], time.time())
        first = False
        time.sleep(every)
        study = study.refreshed()


def _total(study: AnyStudy, phase: Phase) -> int:
    """How many trials a phase has."""
    return study.space.search.trials if phase is Phase.EXPLORE else study.space.confirm.trainings


def _ended(study: AnyStudy) -> StudyEnded:
    counts = Counter(str(record.state) for record in study.records())
    return StudyEnded(study.id, study.document.ended or "interrupted", time.time(), counts)
