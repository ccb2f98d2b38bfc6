"""Writes a study's events to MLflow, in few requests, so that writing them again changes nothing.

Only the delivery process imports this module: mlflow takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from aiq_search.study.document import StudyDocument
from aiq_search.study.events import (
    EpochEnded,
    RungReached,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    TrialState,
)
from aiq_search.tracking import layout
from aiq_search.tracking.artifacts import log_dataset, log_document, log_files
from aiq_search.tracking.curve import BestCurve
from aiq_search.tracking.letters import ChampionExported, FilesWritten, Letter
from aiq_search.tracking.outbox import REGISTERED, Outbox
from aiq_search.tracking.runs import StudyRuns
from aiq_search.tracking.store import RefusedError, Store
from aiq_search.tracking.study_facts import study_params

__all__ = ["NotStartedError", "RunWriter"]


class NotStartedError(Exception):
    """A trial's start is not in the outbox, so its run cannot be made; the study puts it there again."""


class RunWriter:
    """Writes the runs of one study to one MLflow store.

    Args:
        outbox: Remembers which run belongs to whom.
        uri: The store.
    """

    def __init__(self, outbox: Outbox, uri: str) -> None:
        self._outbox = outbox
        self._store = Store(uri)
        self._runs = StudyRuns(self._store, outbox)
        self._document: StudyDocument | None = None
        self._curve: BestCurve | None = None

    @property
    def study(self) -> str:
        """The study's id, once it is known."""
        return self._document.study if self._document else ""

    def connect(self, started: StudyStarted) -> None:
        """Find or make the experiment, and find the study's runs; does nothing if all is known."""
        self._document = StudyDocument.parse(started.document, "the outbox")
        if self._curve is None:
            self._curve = BestCurve(self._outbox, self._document.space.objective)
        self._runs.connect(self._document)

    def doubt(self) -> None:
        """Look at MLflow again before the next run is made: the last request may or may not have worked."""
        self._runs.doubt()

    def write_study(self, owner: str, letters: Sequence[Letter]) -> None:
        """Write what happened to the study ``owner`` as a whole: its start (again) and its end.

        Raises:
            RefusedError: MLflow will never take it.
        """
        document, curve = self._connected()
        events = [letter.event for letter in letters]
        first = next((e.time for e in events if isinstance(e, StudyStarted)), document.created)
        run_id, new = self._runs.of(owner, lambda: self._create_parent(document, first))
        if new:
            curve.restart()
        elif any(isinstance(event, StudyStarted) for event in events):
            self._reopen(run_id)
        if any(isinstance(event, StudyStarted) for event in events):
            log_dataset(self._store, run_id, document)
            log_document(self._store, run_id, document)
            with suppress(RefusedError):  # another version may have written one of them in another way
                self._store.log(run_id, params=study_params(document))
        for event in events:
            if isinstance(event, FilesWritten):
                log_files(self._store, run_id, Path(event.folder))
            if isinstance(event, ChampionExported):
                self._register(run_id, event)
        if events and isinstance(events[-1], StudyEnded):
            self._end_study(run_id, events[-1])

    def write_trial(self, owner: str, letters: Sequence[Letter]) -> None:
        """Write what is new of one trial: at most create, one batch, and one update.

        Raises:
            NotStartedError: Its start is not in the outbox.
            RefusedError: MLflow will never take it.
        """
        events = [letter.event for letter in letters]
        started = next((e for e in events if isinstance(e, TrialStarted)), None)
        ended = next((e for e in events if isinstance(e, TrialEnded)), None)
        outcome = layout.ended_tags(ended) if ended else {}
        # A run that is made with its last tags needs no second look at them by the server.
        run_id, new = self._runs.of(
            owner, lambda: self._create_child(self._start_of(owner, started), outcome)
        )
        points = [p for e in events if isinstance(e, EpochEnded) for p in layout.epoch_points(e)]
        points += [p for e in events if isinstance(e, RungReached) for p in layout.rung_points(e)]
        points = self._runs.new_steps(owner, points)
        tags: dict[str, str] = {}
        if ended:
            epochs = [x.event for x in self._outbox.history(EpochEnded, owner)]
            last = layout.ended_points(ended, [e for e in epochs if isinstance(e, EpochEnded)])
            points += self._runs.new_values(owner, last)
            tags = {} if new else {"aiq.reason": ""} | outcome
        elif not new and started is not None and not self._outbox.history(TrialEnded, owner):
            tags = {"aiq.state": str(TrialState.RUNNING), "aiq.reason": ""}
            self._store.reopen(run_id)
        self._store.log(run_id, points, started.params if started else {}, tags)
        if ended:
            self._store.close(run_id, layout.STATUS[ended.state], ended.time)

    def best_trial(self) -> int | None:
        """Number of the best exploring trial in the outbox; None before there is one."""
        return self._curve.trial if self._curve else None

    def write_best(self) -> None:
        """Add to the study's run how its best network improved since the last time."""
        _, curve = self._connected()
        run_id = self._runs.get(self.study)
        points = curve.missing()
        if not points or run_id is None:
            return
        with suppress(RefusedError):  # the user deleted the study's run: its trials are written all the same
            self._store.log(run_id, self._runs.new_steps(self.study, points))
        curve.wrote(points)

    def close_study(self, reason: str, time: float) -> None:
        """Close all runs, because the driver is gone without having ended the study."""
        run_id = self._runs.get(self.study)
        if run_id is not None:
            self._close_running(reason, time)
            self._store.log(run_id, tags={"aiq.state": "interrupted", "aiq.reason": reason})
            self._store.close(run_id, "KILLED", time)

    def mark_refused(self, owner: str, error: str, time: float) -> None:
        """Leave a trace of a refusal on the run that it concerns, if it can be reached."""
        run_id = self._runs.get(owner)
        if run_id is not None:
            with suppress(RefusedError, MlflowException):
                self._store.log(run_id, tags={"aiq.reason": layout.text(f"MLflow refused: {error}", 500)})
                self._store.close(run_id, "FAILED", time)

    def _end_study(self, run_id: str, ended: StudyEnded) -> None:
        """Close the study's run, with the champion's numbers as its last ones."""
        document, _ = self._connected()
        self.write_best()
        points: list[layout.Point] = []
        if ended.champion:
            step = len(self._outbox.owners(TrialEnded))
            points = layout.champion_points(ended.champion, ended.time, step)
            if ended.comparison:
                points += layout.comparison_points(ended.comparison, ended.time, step)
            points = self._runs.new_values(document.study, points)
        self._store.log(run_id, points, tags=layout.study_ended_tags(ended, document))
        self._store.close(run_id, layout.ENDS.get(ended.reason, "FAILED"), ended.time)
        if ended.reason != "finished":
            self._close_running(f"the search was {ended.reason}; aiq resume continues it", ended.time)

    def _close_running(self, reason: str, time: float) -> None:
        """Close trials that have not ended. Their next start opens them again."""
        ended = self._outbox.owners(TrialEnded)
        for owner in self._runs.owners():
            run_id = self._runs.get(owner)
            if owner != self.study and owner not in ended and run_id is not None:
                self._store.log(run_id, tags={"aiq.state": "INTERRUPTED", "aiq.reason": reason})
                self._store.close(run_id, "KILLED", time)

    def _reopen(self, run_id: str) -> None:
        """Open the study's run again."""
        self._store.log(run_id, tags={"aiq.state": str(TrialState.RUNNING), "aiq.reason": ""})
        self._store.reopen(run_id)

    def _connected(self) -> tuple[StudyDocument, BestCurve]:
        if self._document is None or self._curve is None:
            raise RuntimeError("connect() comes before writing.")
        return self._document, self._curve

    def _start_of(self, owner: str, started: TrialStarted | None) -> TrialStarted:
        """The trial's first start, from the outbox if it is not among what is being written."""
        first = started or next((x.event for x in self._outbox.history(TrialStarted, owner)), None)
        if not isinstance(first, TrialStarted):
            raise NotStartedError(f"the outbox lacks the start of {owner}; the study puts it there again")
        return first

    def _create_parent(self, document: StudyDocument, time: float) -> Run:
        return self._runs.create(document.study, layout.parent_tags(document), time)

    def _create_child(self, started: TrialStarted, outcome: Mapping[str, str]) -> Run:
        document, _ = self._connected()
        parent = self._runs.get(layout.parent_key(started)) or self._runs.get(document.study) or ""
        tags = layout.child_tags(document, started, parent) | dict(outcome)
        return self._runs.create(layout.child_name(document, started), tags, started.time)

    def expect_champion(self) -> None:
        """Import what registering a champion takes: seconds, for which it would have to wait."""
        from aiq_search.tracking import model_registry  # noqa: F401

    def _register(self, run_id: str, event: ChampionExported) -> None:
        """Register the champion, and keep the sentence that says what became of it."""
        from aiq_search.tracking.model_registry import register_champion

        document, _ = self._connected()
        result = self._store.ask(lambda: register_champion(self._store.uri, run_id, document, event))
        self._store.log(run_id, tags={"aiq.registered": layout.text(result)})
        self._outbox.remember(REGISTERED, result)
