"""The runs of one study in one store: each is found by its tag before it is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import MlflowException

from aiq_search.redaction import redact
from aiq_search.study.document import StudyDocument
from aiq_search.tracking import layout
from aiq_search.tracking.client import search_runs
from aiq_search.tracking.layout import Point
from aiq_search.tracking.mlflow_internals import RunRow, last_metrics, runs_in_database
from aiq_search.tracking.outbox import Outbox
from aiq_search.tracking.store import Store
from aiq_search.tracking.uri import artifact_root

__all__ = ["StudyRuns"]

_log = logging.getLogger(__name__)


class StudyRuns:
    """Which run belongs to which trial, or to the study.

    Args:
        store: Where the runs are.
        outbox: Remembers them between two deliveries.
    """

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._experiment = ""
        self._ids: dict[str, str] = {}
        self._sure = False  # whether ``_ids`` is all that MLflow has
        self._unknown: set[str] = set()  # owners whose runs the outbox did not know
        self._steps: dict[tuple[str, str], set[int]] = {}  # of them, as they were found
        self._last: dict[
            str, dict[str, tuple[int, float]]
        ] = {}  # each number's last step and value, likewise

    def connect(self, document: StudyDocument) -> None:
        """Find or make the experiment, and find the study's runs; does nothing if all is known."""
        if self._sure:
            return
        self._experiment = self._find_experiment(document)
        store = f"{redact(self._store.uri)} experiment {self._experiment}"
        if self._outbox.fact("store") not in (None, store):
            self._outbox.forget_runs(self._outbox.runs())
        self._outbox.remember("store", store)
        self._find(document.study)
        self._sure = True

    def doubt(self) -> None:
        """Look at MLflow again before the next run is made: the last request may or may not have worked."""
        self._sure = False

    def get(self, owner: str) -> str | None:
        """The id of an owner's run, if there is one."""
        return self._ids.get(owner)

    def owners(self) -> list[str]:
        """Who has a run."""
        return list(self._ids)

    def of(self, owner: str, create: Callable[[], Run]) -> tuple[str, bool]:
        """The run of an owner, made if there is none, and whether it was made."""
        if owner in self._ids:
            return self._ids[owner], False
        run_id = str(create().info.run_id)
        self._ids[owner] = run_id
        self._outbox.remember_runs({owner: run_id})
        return run_id, True

    def create(self, name: str, tags: Mapping[str, str], time: float) -> Run:
        """Make a run in the study's experiment."""
        begin = layout.milliseconds(time)
        return self._store.ask(
            lambda: self._store.client.create_run(self._experiment, begin, dict(tags), run_name=name)
        )

    def new_steps(self, owner: str, points: list[Point]) -> list[Point]:
        """Those of an owner's points whose steps its run does not have.

        Writing a point again with its time changes nothing, so nothing is asked. But where the outbox does
        not know the run, it was filled again from the study, which does not know the times that MLflow has.
        """
        if owner not in self._unknown or not points:
            return points
        return [point for point in points if point.step not in self._steps_of(owner, point.name)]

    def _steps_of(self, owner: str, name: str) -> set[int]:
        """The steps that a run has of a metric; the metrics of an epoch, or of a rung, share theirs."""
        kind = "rung" if name.startswith(layout.RUNG) else "epoch"
        if (owner, kind) not in self._steps:
            run_id, client = self._ids[owner], self._store.client
            history = self._store.ask(lambda: client.get_metric_history(run_id, name))
            self._steps[owner, kind] = {metric.step for metric in history}
        return self._steps[owner, kind]

    def new_values(self, owner: str, points: list[Point]) -> list[Point]:
        """Those of an owner's points that are not the last values of its run already."""
        last = self._last.get(owner, {})
        return [point for point in points if last.get(point.name) != (point.step, point.value)]

    def _find_experiment(self, document: StudyDocument) -> str:
        """Id of the experiment that has the space's name, made or brought back if need be."""
        ask, client = self._store.ask, self._store.client
        space, tags = document.space.name, layout.experiment_tags(document)
        experiment = ask(lambda: client.get_experiment_by_name(space))
        if experiment is None:
            root = artifact_root(self._store.uri)
            place = None if root is None else f"{root}/{space}"
            return str(ask(lambda: client.create_experiment(space, place, tags)))
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            ask(lambda: client.restore_experiment(experiment.experiment_id))
        for name, value in tags.items():
            if experiment.tags.get(name) != value:
                ask(partial(client.set_experiment_tag, experiment.experiment_id, name, value))
        return str(experiment.experiment_id)

    def _find(self, study: str) -> None:
        """Learn from MLflow's tags which runs the study has; forget others, delete doubles."""
        client, key = self._store.client, "aiq.trial_key"
        whole: dict[str, Run] = {}
        rows = self._store.ask(lambda: runs_in_database(client, self._experiment, ("aiq.study", study), key))
        if rows is None:
            where = f"tags.`aiq.study` = '{study}'"
            runs = self._store.ask(lambda: list(search_runs(client, [self._experiment], where, ViewType.ALL)))
            whole = {run.info.run_id: run for run in runs}
            rows = [RunRow.of(run, key) for run in runs]
        by_owner: dict[str, list[RunRow]] = {}
        for row in rows:
            if row.tag:
                by_owner.setdefault(row.tag, []).append(row)
        known = self._outbox.runs()
        self._ids = {}
        for owner, candidates in by_owner.items():
            first, *doubles = sorted(candidates, key=lambda row: _preference(row, known.get(owner)))
            self._ids[owner] = first.run_id
            if owner not in known:
                self._unknown.add(owner)
            if owner in self._unknown or owner == study:
                run = whole.get(first.run_id) or self._store.ask(partial(client.get_run, first.run_id))
                self._last[owner] = {m.key: (m.step, m.value) for m in last_metrics(run)}
            for double in doubles:
                if double.active:
                    self._delete(double.run_id, owner)
        self._outbox.forget_runs(owner for owner, run_id in known.items() if self._ids.get(owner) != run_id)
        self._outbox.remember_runs(self._ids)

    def _delete(self, run_id: str, owner: str) -> None:
        """Delete a second run, if MLflow's user may: a driver may only delete in experiments that it made."""
        _log.warning("deleting %s, a second run of %s", run_id, owner)
        try:
            self._store.ask(partial(self._store.client.delete_run, run_id))
        except MlflowException as error:
            if error.error_code != "PERMISSION_DENIED":
                raise
            _log.warning("%s stays: MLflow's user may not delete it", run_id)


def _preference(row: RunRow, known: str | None) -> tuple[bool, bool, int, str]:
    """Sorts the run to keep first: the remembered one, else the oldest active one.

    A request that timed out may have made a double.
    """
    return row.run_id != known, not row.active, row.started, row.run_id
