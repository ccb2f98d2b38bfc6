"""Reconciling: what a study knows and its outbox lacks is put there.

The study is the truth. A power cut may take the outbox's last events, a user may delete the file, and a
study may have run with another listener: putting everything again is right each time, because an event
that the outbox knows changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiq_search.study.events import EpochEnded, Event, RungReached, StudyStarted
from aiq_search.tracking.letters import event_id

if TYPE_CHECKING:
    from aiq_search.study import StudyView
    from aiq_search.study.record import TrialRecord
    from aiq_search.tracking.listener import MlflowListener

__all__ = ["events_of", "events_of_record", "reconcile"]

_BATCH = 5000  # events in one transaction


def reconcile(study: StudyView, listener: MlflowListener) -> int:
    """Give the listener what the study knows and its outbox lacks; returns how many events that were."""
    known = listener.outbox.event_ids()
    # A second start, put behind the study's end, would look as if a driver had taken it up again.
    started = bool(listener.outbox.history(StudyStarted))
    new, batch = 0, []
    for event in events_of(study):
        if event_id(event) in known or (started and isinstance(event, StudyStarted)):
            continue
        batch.append(event)
        if len(batch) == _BATCH:
            new, batch = new + listener.put(batch), []
    return new + listener.put(batch)


def events_of(study: StudyView) -> Iterator[Event]:
    """The events of a study, as far as its storage has them, trial by trial: all but its ends.

    Trials come in the order in which they ended, as the curve of the best so far was drawn.
    """
    document = study.document
    created = document.created
    yield StudyStarted(study.id, document.space.name, document.as_json(), False, created)
    for record in sorted(study.records(), key=lambda r: math.inf if r.ended is None else r.ended):
        yield from events_of_record(record)


def events_of_record(record: TrialRecord) -> Iterator[Event]:
    """The events of one trial. Epochs are spread evenly between its start and its end."""
    end = record.ended if record.ended is not None else time.time()
    start = record.started if record.started is not None else end
    yield record.begun(start)
    for rung in record.rungs:
        metrics = {name: value for name, value in rung.items() if name not in ("share", "samples")}
        samples = round(rung["samples"])
        yield RungReached(record.key, rung["share"], samples, metrics, start)
    run = max((len(column) for column in record.history.values()), default=0)
    for epoch in range(1, run + 1):
        metrics = {name: column[epoch - 1] for name, column in record.history.items() if len(column) >= epoch}
        yield EpochEnded(record.key, epoch, metrics, start + (end - start) * epoch / max(run, record.epochs))
    if record.finished:
        yield record.told(end)
