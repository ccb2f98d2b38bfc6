"""Reconciling: what a study knows and its outbox lacks is put there.

The study is the truth. A power cut may take the outbox's last events, a user may delete the file, and a
study may have run with another listener: telling everything again is right each time, because an event
that the outbox knows changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from aiq_search.study.events import EpochEnded, Event, StudyStarted

if TYPE_CHECKING:
    from aiq_search.study.document import StudyDocument
    from aiq_search.study.record import TrialRecord
    from aiq_search.tracking.listener import MlflowListener

__all__ = ["RecordedStudy", "events_of", "events_of_record", "reconcile"]


class RecordedStudy(Protocol):
    """What is read of a study here; ``aiq_search.search.Study`` has it."""

    @property
    def id(self) -> str:
        """The study's id."""

    @property
    def document(self) -> StudyDocument:
        """The content of study.json."""

    def records(self) -> Sequence[TrialRecord]:
        """All trials of both phases."""


def reconcile(study: RecordedStudy, listener: MlflowListener) -> int:
    """Give the listener what the study knows and its outbox lacks; returns how many events that were."""
    # A second start, put behind the study's end, would look as if a driver had taken it up again.
    begun = bool(listener.outbox.history(StudyStarted))
    return listener.put(e for e in events_of(study) if not (begun and isinstance(e, StudyStarted)))


def events_of(study: RecordedStudy) -> Iterator[Event]:
    """The events of a study, as far as its storage tells them: all but its ends."""
    document = study.document
    created = document.created
    yield StudyStarted(study.id, document.space.name, document.as_json(), False, created)
    for record in sorted(study.records(), key=lambda r: r.started or created):
        yield from events_of_record(record)


def events_of_record(record: TrialRecord) -> Iterator[Event]:
    """The events of one trial. Epochs are spread evenly between its start and its end."""
    end = record.ended if record.ended is not None else time.time()
    start = record.started if record.started is not None else end
    yield record.begun(start)
    run = max((len(column) for column in record.history.values()), default=0)
    for epoch in range(1, run + 1):
        metrics = {name: column[epoch - 1] for name, column in record.history.items() if len(column) >= epoch}
        yield EpochEnded(record.key, epoch, metrics, start + (end - start) * epoch / max(run, record.epochs))
    if record.finished:
        yield record.told(end)
