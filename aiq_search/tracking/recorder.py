"""Writes a study's events to MLflow, in few requests, so that writing them again changes nothing.

Only the delivery process imports this module: mlflow takes seconds to import.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine
from sqlalchemy.event import listens_for

from aiq_search.redaction import redact
from aiq_search.study.events import (
    EpochEnded,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    TrialState,
)
from aiq_search.tracking import layout
from aiq_search.tracking.outbox import REGISTERED, ChampionExported, FilesWritten, Letter, Outbox
from aiq_search.tracking.uri import artifact_root

__all__ = ["Recorder", "RefusedError"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

# What no second attempt can change. All else (no connection, 401, 429, 5xx, a locked file) is tried again.
_FINAL = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "MALFORMED_REQUEST"}
_GONE = "RESOURCE_DOES_NOT_EXIST"
BUNDLE = "bundle"  # where a study's network lies among the artifacts


@listens_for(Engine, "connect")
def _keep_journal(connection: object, record: object) -> None:
    """Have MLflow's SQLite file overwrite its rollback journal instead of making one for each commit.

    As safe, and a trial takes a quarter less time. The mode is this connection's alone; a file that its
    owner has put into another one (WAL, say) stays as it is.
    """
    if isinstance(connection, sqlite3.Connection):
        [(mode,)] = connection.execute("PRAGMA journal_mode")
        if mode == "delete":
            connection.execute("PRAGMA journal_mode = PERSIST")


class RefusedError(Exception):
    """MLflow will never take this."""


class Recorder:
    """The runs of one study in one MLflow store.

    Args:
        outbox: Remembers which run belongs to whom.
        uri: The store.
    """

    def __init__(self, outbox: Outbox, uri: str) -> None:
        self._outbox = outbox
        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri)
        self._started: StudyStarted | None = None
        self._experiment = ""
        self._runs: dict[str, str] = {}
        self._sure = False  # whether ``_runs`` is all that MLflow has
        self._best: layout.BestSoFar | None = None
        self._seen = 0  # row of the last trial's end that ``_best`` has seen
        self._curve: list[layout.Point] = []  # of the study's run, not written yet

    @property
    def study(self) -> str:
        """The study's id, once it is known."""
        return self._started.study if self._started else ""

    def connect(self, started: StudyStarted) -> None:
        """Find or make the experiment, and find the study's runs; does nothing if all is known."""
        self._started = started
        if self._sure:
            return
        self._experiment = self._find_experiment(started)
        store = f"{redact(self._uri)} experiment {self._experiment}"
        if self._outbox.fact("store") not in (None, store):
            self._outbox.forget_runs(self._outbox.runs())
        self._outbox.remember("store", store)
        self._find_runs(started.study)
        self._sure = True

    def doubt(self) -> None:
        """Look at MLflow again before the next run is made: the last request may or may not have worked."""
        self._sure = False

    def write_study(self, owner: str, letters: Sequence[Letter]) -> None:
        """Write what happened to the study ``owner`` as a whole: its start (again) and its end.

        Raises:
            RefusedError: MLflow will never take it.
        """
        started = self._study_started()
        events = [x.event for x in letters]
        run_id, new = self._run_of(owner, lambda: self._create_parent(started))
        if new:
            self._draw_again()
        elif any(isinstance(e, StudyStarted) for e in events):
            self._refresh(started)
        if any(isinstance(e, StudyStarted) for e in events):
            self._log_dataset(run_id, started.document)
            self._log_document(run_id, started.document)
        for event in events:
            if isinstance(event, FilesWritten):
                self._log_files(run_id, Path(event.folder))
            if isinstance(event, ChampionExported):
                self._register(run_id, event)
        ends = [e for e in events if isinstance(e, StudyEnded)]
        if ends and isinstance(events[-1], StudyEnded):
            self.write_parent(ends[-1])

    def write_trial(self, owner: str, letters: Sequence[Letter]) -> None:
        """Write what is new of one trial: at most create, one batch, and one update.

        Raises:
            RefusedError: MLflow will never take it.
        """
        events = [x.event for x in letters]
        started = next((e for e in events if isinstance(e, TrialStarted)), None)
        ended = next((e for e in events if isinstance(e, TrialEnded)), None)
        outcome = layout.ended_tags(ended) if ended else {}
        # A run that is made with its last tags needs no second look at them by the server.
        run_id, new = self._run_of(owner, lambda: self._create_child(self._start_of(owner, started), outcome))
        points = [p for e in events if isinstance(e, EpochEnded) for p in layout.epoch_points(e)]
        tags: dict[str, str] = {}
        if ended:
            epochs = [x.event for x in self._outbox.history(EpochEnded, owner)]
            points += layout.ended_points(ended, [e for e in epochs if isinstance(e, EpochEnded)])
            tags = {} if new else {"aiq.reason": ""} | outcome
        elif not new and any(isinstance(e, TrialStarted) for e in events):
            tags = {"aiq.state": str(TrialState.RUNNING), "aiq.reason": ""}
            self._close(run_id, "RUNNING", None)
        self._log(run_id, points, started.params if started else {}, tags)
        if ended:
            self._close(run_id, layout.STATUS[ended.state], ended.time)

    def best_trial(self) -> int | None:
        """Number of the best exploring trial of which the outbox knows; None before there is one.

        Each trial's end is read once, so that a trial costs the same however many went before.
        """
        if self._started is None:
            return None
        if self._best is None:
            self._best = layout.BestSoFar(self._started.document)
        for letter in self._outbox.history(TrialEnded, after=self._seen):
            self._seen = letter.row
            if isinstance(letter.event, TrialEnded):
                self._curve += self._best.add(letter.event)
        return self._best.trial

    def write_best(self) -> None:
        """Add to the study's run how its best network improved since the last time."""
        self.best_trial()
        written = int(self._outbox.fact("best") or 0)
        self._curve = [p for p in self._curve if p.step > written]
        if self._curve and self.study in self._runs:
            with suppress(RefusedError):  # the user deleted the study's run: its trials go on
                self._log(self._runs[self.study], self._curve, {}, {})
            self._outbox.remember("best", str(self._curve[-1].step))
            self._curve = []

    def _draw_again(self) -> None:
        """Draw the curve of the best from its beginning: the study's run is a new one."""
        self._outbox.remember("best", None)
        self._best, self._seen, self._curve = None, 0, []

    def write_parent(self, ended: StudyEnded) -> None:
        """Close the study's run, with the champion's numbers as its last ones."""
        self.write_best()
        run_id = self._runs[ended.study]
        status = layout.ENDS.get(ended.reason, "FAILED")
        tags = {"aiq.state": ended.reason, "aiq.counts": _counts(ended.counts)}
        tags["aiq.finalists"] = " ".join(map(str, ended.finalists))
        if ended.message:
            tags["aiq.reason"] = layout.text(ended.message)
        if ended.champion:
            document = self._study_started().document
            note = layout.outcome(document, ended.champion)
            note += layout.study_description(document, self._study_started().space)
            tags["mlflow.note.content"] = layout.text(note)
        step = len(self._outbox.owners(TrialEnded))
        points = layout.champion_points(ended.champion, ended.time, step) if ended.champion else []
        self._log(run_id, points, {}, tags)
        self._close(run_id, status, ended.time)
        if ended.reason != "finished":
            self.close_running(f"the search was {ended.reason}; aiq resume continues it", ended.time)

    def close_running(self, reason: str, time: float) -> int:
        """Close trials that have not ended; returns how many. Their next start opens them again."""
        over = self._outbox.owners(TrialEnded)
        open_ = [k for k in self._runs if k != self.study and k not in over]
        for owner in open_:
            self._log(self._runs[owner], [], {}, {"aiq.state": "INTERRUPTED", "aiq.reason": reason})
            self._close(self._runs[owner], "KILLED", time)
        return len(open_)

    def close_study(self, reason: str, time: float) -> None:
        """Close everything because the driver is gone without having said so."""
        if self.study in self._runs:
            self.close_running(reason, time)
            run_id = self._runs[self.study]
            self._log(run_id, [], {}, {"aiq.state": "interrupted", "aiq.reason": reason})
            self._close(run_id, "KILLED", time)

    def _study_started(self) -> StudyStarted:
        if self._started is None:
            raise RuntimeError("connect() comes before writing.")
        return self._started

    def _start_of(self, owner: str, started: TrialStarted | None) -> TrialStarted:
        """The trial's first start, from the outbox if it is not among what is being written."""
        known = started or next((x.event for x in self._outbox.history(TrialStarted, owner)), None)
        if not isinstance(known, TrialStarted):
            raise RefusedError(f"{owner} has events but was never started; aiq resume reconciles it.")
        return known

    def _run_of(self, owner: str, create: Callable[[], Run]) -> tuple[str, bool]:
        """The run of ``owner``, made if there is none, and whether it was made."""
        if owner in self._runs:
            return self._runs[owner], False
        run_id = str(create().info.run_id)
        self._runs[owner] = run_id
        self._outbox.remember_runs({owner: run_id})
        return run_id, True

    def _create_parent(self, started: StudyStarted) -> Run:
        tags = layout.parent_tags(started.document, started.space)
        return self._create(started.study, tags, started.time)

    def _create_child(self, started: TrialStarted, outcome: Mapping[str, str]) -> Run:
        document = self._study_started().document
        parent = self._runs.get(layout.parent_key(started)) or self._runs[self.study]
        tags = layout.child_tags(document, started, parent) | dict(outcome)
        return self._create(layout.child_name(document, started), tags, started.time)

    def _create(self, name: str, tags: Mapping[str, str], time: float) -> Run:
        return self._ask(
            lambda: self._client.create_run(
                self._experiment, layout.milliseconds(time), dict(tags), run_name=name
            )
        )

    def _refresh(self, started: StudyStarted) -> None:
        """Open the parent's run again."""
        run_id = self._runs[started.study]
        self._log(run_id, [], {}, {"aiq.state": str(TrialState.RUNNING), "aiq.reason": ""})
        self._close(run_id, "RUNNING", None)

    def _log(
        self, run_id: str, points: Sequence[layout.Point], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Write metrics, parameters and tags in one request (more than 1000 values: in several)."""
        metrics = [Metric(p.name, p.value, p.timestamp, p.step) for p in points]
        written = [Param(k, layout.text(v)) for k, v in params.items()]
        labels = [RunTag(k, v) for k, v in tags.items()]
        self._ask(lambda: self._client.log_batch(run_id, metrics, written, labels))

    def _close(self, run_id: str, status: str, time: float | None) -> None:
        end = None if time is None else layout.milliseconds(time)
        if status == "RUNNING":
            self._ask(lambda: self._client.update_run(run_id, status))
        else:
            self._ask(lambda: self._client.set_terminated(run_id, status, end))

    def _log_files(self, run_id: str, folder: Path) -> None:
        if not folder.is_dir():
            _log.warning("%s is gone: it cannot be kept in MLflow", folder)
            return
        if (folder / BUNDLE).is_dir():
            self._remove_bundle(run_id)
        self._ask(lambda: self._client.log_artifacts(run_id, str(folder)))

    def _remove_bundle(self, run_id: str) -> None:
        """Remove the bundle of an earlier best: files of two networks would make a bundle of neither."""
        try:
            if self._client.list_artifacts(run_id, BUNDLE):
                place = self._client.get_run(run_id).info.artifact_uri
                repository: Any = get_artifact_repository(place, tracking_uri=self._uri)
                repository.delete_artifacts(BUNDLE)
        except Exception as error:  # a store that deletes nothing: the new files replace those of their name
            _log.warning("an earlier bundle stays beside the new one: %s", redact(str(error)))

    def _log_document(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Keep study.json with the run: who has only the tracking URI reads the study from there."""
        try:
            self._client.log_dict(run_id, dict(document), "study.json")
        except Exception as error:  # a store for artifacts that takes nothing must not hold up the numbers
            _log.warning("study.json is not in MLflow before the study's end: %s", redact(str(error)))

    def _register(self, run_id: str, event: ChampionExported) -> None:
        """Register the champion, and keep the sentence that says what became of it."""
        from aiq_search.tracking.model_registry import register_champion

        document = self._study_started().document
        said = self._ask(lambda: register_champion(self._uri, run_id, document, event))
        self._log(run_id, [], {}, {"aiq.registered": layout.text(said)})
        self._outbox.remember(REGISTERED, said)

    def _log_dataset(self, run_id: str, document: Mapping[str, Any]) -> None:
        dataset = document.get("dataset") or {}
        if not dataset.get("name") or not dataset.get("digest"):
            return
        about = Dataset(
            name=str(dataset["name"]),
            digest=str(dataset["digest"])[:36],
            source_type="aiq_search",
            source=str(dataset["name"]),
            profile=layout.dataset_profile(dataset),
        )
        tag = InputTag("mlflow.data.context", "training")
        self._ask(lambda: self._client.log_inputs(run_id, [DatasetInput(about, [tag])]))

    def _find_experiment(self, started: StudyStarted) -> str:
        """Id of the experiment that has the space's name, made or brought back if need be."""
        found = self._ask(lambda: self._client.get_experiment_by_name(started.space))
        tags = layout.experiment_tags(started.space, started.document)
        if found is None:
            root = artifact_root(self._uri)
            place = None if root is None else f"{root}/{started.space}"
            return str(self._ask(lambda: self._client.create_experiment(started.space, place, tags)))
        if found.lifecycle_stage == LifecycleStage.DELETED:
            self._ask(lambda: self._client.restore_experiment(found.experiment_id))
        for name, value in tags.items():
            if found.tags.get(name) != value:
                self._ask(partial(self._client.set_experiment_tag, found.experiment_id, name, value))
        return str(found.experiment_id)

    def _find_runs(self, study: str) -> None:
        """Learn from MLflow's tags which runs the study has; forget others, delete doubles."""
        found: dict[str, list[Run]] = {}
        for run in self._search(study):
            found.setdefault(run.data.tags.get("aiq.trial_key", ""), []).append(run)
        found.pop("", None)
        known = self._outbox.runs()
        self._runs = {}
        for owner, runs in found.items():
            # The remembered run first, else the oldest: a request that timed out may have made a double.
            runs.sort(
                key=lambda r: (
                    r.info.run_id != known.get(owner),
                    r.info.lifecycle_stage != LifecycleStage.ACTIVE,
                    r.info.start_time,
                    r.info.run_id,
                )
            )
            self._runs[owner] = runs[0].info.run_id
            for double in runs[1:]:
                if double.info.lifecycle_stage == LifecycleStage.ACTIVE:
                    _log.warning("deleting %s, a second run of %s", double.info.run_id, owner)
                    self._ask(partial(self._client.delete_run, double.info.run_id))
        self._outbox.forget_runs(owner for owner, run in known.items() if self._runs.get(owner) != run)
        self._outbox.remember_runs(self._runs)

    def _search(self, study: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        where = f"tags.`aiq.study` = '{study}'"
        while True:
            search = partial(self._client.search_runs, [self._experiment], where, ViewType.ALL, 1000)
            page = self._ask(partial(search, page_token=token))
            runs += page
            token = page.token
            if not token:
                return runs

    def _ask(self, request: Callable[[], T]) -> T:
        """Make one request and sort its failure: for ever, or for now."""
        try:
            return request()
        except MlflowException as error:
            if error.error_code == _GONE:
                self.doubt()  # the store was changed under us: look again, then try again
            if error.error_code in _FINAL:
                raise RefusedError(redact(str(error))) from error
            raise

    def mark_refused(self, owner: str, error: str, time: float) -> None:
        """Leave a trace of a refusal on the run that it concerns, if it can be reached."""
        if owner in self._runs:
            with suppress(RefusedError, MlflowException):
                self._log(
                    self._runs[owner], [], {}, {"aiq.reason": layout.text(f"MLflow refused: {error}", 500)}
                )
                self._close(self._runs[owner], "FAILED", time)


def _counts(counts: Mapping[str, int]) -> str:
    """Counts by state in one line.

    >>> _counts({"COMPLETE": 21, "PRUNED": 45, "FAIL": 0})
    '21 COMPLETE, 45 PRUNED'
    """
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n)
