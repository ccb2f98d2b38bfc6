"""Studies as MLflow has them, for machines that have only the tracking URI.

MLflow is never the truth: this is for looking, where the study's folder is elsewhere. Importing it imports
mlflow, which takes seconds: do so where it is used.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from aiq_search.errors import StudyError
from aiq_search.space import SearchSpace
from aiq_search.study import Champion, Phase, TrialKey, TrialRecord, TrialState
from aiq_search.study.champion import choose_champion, judge_finalists
from aiq_search.study.document import FILE as DOCUMENT
from aiq_search.study.document import StudyDocument
from aiq_search.study.metrics import HEADLINE, ONCE, SIZES
from aiq_search.study.progress import ranking
from aiq_search.tracking.client import connect, first_line, search_runs, unreachable
from aiq_search.tracking.layout import text
from aiq_search.tracking.mlflow_internals import last_metrics

__all__ = ["RemoteStudy", "find_study", "list_remote_studies"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # what may stand in a filter
_SEED = re.compile(r"(?:confirm-\d+|trial-\d+|reference)-seed-(\d+)")


class RemoteStudy:
    """A study read from MLflow; looks like ``aiq_search.study.Study`` to those who only read.

    Args:
        client: Of the store.
        run: The study's run.
        uri: The store.
    """

    def __init__(self, client: MlflowClient, run: Run, uri: str) -> None:
        self._client = client
        self._run = run
        self._uri = uri

    @property
    def id(self) -> str:
        """The study's id."""
        return str(self._run.data.tags["aiq.study"])

    @property
    def run_id(self) -> str:
        """MLflow's name of its run."""
        return str(self._run.info.run_id)

    @property
    def is_running(self) -> bool:
        """Whether MLflow believes that it runs."""
        return bool(self._run.info.status == "RUNNING")

    @cached_property
    def document(self) -> StudyDocument:
        """The study's study.json.

        Raises:
            StudyError: MLflow does not have it, or it is damaged.
        """
        try:
            content = self.artifact(DOCUMENT).read_text(encoding="utf-8")
            document = StudyDocument.parse(content, DOCUMENT)
        except (OSError, ValueError, StudyError, MlflowException) as error:
            raise StudyError(
                f"study {self.id} in MLflow has no usable {DOCUMENT} ({first_line(error)}); look at it where "
                "its folder is."
            ) from None
        ended = self._run.data.tags.get("aiq.state")
        known = ended in ("finished", "interrupted", "failed") and not self.is_running
        return document.changed(ended=ended if known else None)

    @cached_property
    def space(self) -> SearchSpace:
        """What is searched."""
        return self.document.space

    @property
    def finalists(self) -> list[int]:
        """The exploring trials that were confirmed; none before the study is over."""
        if self.document.ended != "finished":
            return []
        return [int(number) for number in self._run.data.tags.get("aiq.finalists", "").split()]

    def records(self, phase: Phase | None = None) -> list[TrialRecord]:
        """What MLflow knows of each trial: exploring trials, then confirmations."""
        return [record for record in self._records if phase in (None, record.key.phase)]

    def champion(self) -> Champion:
        """The champion as far as the study has come.

        Raises:
            NothingFeasibleError: No configuration meets the constraints.
        """
        explored, confirmed = self.records(Phase.EXPLORE), self.records(Phase.CONFIRM)
        finalists = self.finalists
        # The choice as it was made: MLflow does not keep all that it was made of.
        made = self._run.data.tags.get("aiq.champion") if finalists else None
        for finalist in judge_finalists(self.space, explored, confirmed, finalists):
            if made == str(finalist.trial):
                return finalist
        return choose_champion(self.space, explored, confirmed, finalists)

    def artifact(self, path: str, folder: Path | None = None) -> Path:
        """Download something that lies with the study's run.

        Raises:
            MlflowException: It is not there, or MLflow does not answer.
        """
        place = folder or Path(tempfile.mkdtemp(prefix="aiq-"))
        uri = f"runs:/{self.run_id}/{path}"
        return Path(download_artifacts(uri, dst_path=str(place), tracking_uri=self._uri))

    def refreshed(self) -> RemoteStudy:
        """The same study as it is now."""
        return RemoteStudy(self._client, self._client.get_run(self.run_id), self._uri)

    @cached_property
    def _rules(self) -> dict[str, Any]:
        rules: dict[str, Any] = self.space.document()["parameters"]
        return rules

    @cached_property
    def _records(self) -> list[TrialRecord]:
        where = f"tags.`aiq.study` = '{self.id}'"
        runs = search_runs(self._client, [self._run.info.experiment_id], where)
        records = [record for run in runs if (record := self._record_of(run)) is not None]
        order = list(Phase)
        return sorted(records, key=lambda r: (order.index(r.key.phase), r.key.number))

    def _record_of(self, run: Run) -> TrialRecord | None:
        """A trial as its run has it; None for the study's own run, and for one whose tags were removed."""
        try:
            return self._record(run)
        except (KeyError, ValueError):
            return None

    def _state(self, run: Run) -> TrialState:
        """The state of a trial; RUNNING until the delivery has closed its run, which it does last.

        So is one that was interrupted: it continues when the study is resumed.
        """
        state = run.data.tags.get("aiq.state")
        if run.info.status == "RUNNING" or state not in list(TrialState):
            return TrialState.RUNNING
        needed = {*HEADLINE, *SIZES, ranking(self.space.objective)[0]}
        if state == TrialState.COMPLETE and not needed <= run.data.metrics.keys():
            return TrialState.RUNNING
        return TrialState(state)

    def _record(self, run: Run) -> TrialRecord:
        tags, metrics = run.data.tags, dict(run.data.metrics)
        phase = Phase(tags["aiq.phase"])
        number = TrialKey.parse(tags["aiq.trial_key"]).number
        name, _ = ranking(self.space.objective)
        state = self._state(run)
        collapsed = tags.get("aiq.collapsed") == "true"
        seed = _SEED.match(run.info.run_name or "")
        epochs = max((m.step for m in last_metrics(run) if not m.key.startswith(ONCE)), default=0)
        over = state is not TrialState.RUNNING and run.info.end_time is not None
        return TrialRecord(
            key=TrialKey(self.id, phase, number),
            state=state,
            params=self._params(run.data.params),
            seed=int(tags["aiq.seed"]),
            config_hash=tags.get("aiq.config_hash", ""),
            origin=int(tags["aiq.trial"]) if phase is Phase.CONFIRM else None,
            replicate=int(seed[1]) if seed else None,
            retry_of=int(tags["aiq.retry_of"]) if "aiq.retry_of" in tags else None,
            value=0.0 if collapsed else metrics.get(name),
            epoch=int(tags["aiq.epoch"]) if "aiq.epoch" in tags else None,
            epochs=epochs,
            metrics=metrics,
            history=_History(self._client, run.info.run_id, metrics, epochs),
            reason=tags.get("aiq.reason") or None,
            collapsed=collapsed,
            engine=tags.get("aiq.engine"),
            engine_reason=tags.get("aiq.engine_reason"),
            feasible={"true": True, "false": False}.get(tags.get("aiq.feasible", "")),
            started=run.info.start_time / 1000,
            ended=run.info.end_time / 1000 if over else None,
        )

    def _params(self, params: Mapping[str, str]) -> dict[str, Any]:
        """Parameters with the types that the space gives them: MLflow keeps text."""
        rules = self._rules
        ordered = [name for name in rules if name in params] + [name for name in params if name not in rules]
        return {name: _value(params[name], rules.get(name) or {}) for name in ordered}


class _History(Mapping[str, list[float]]):
    """The numbers of a trial by epoch, fetched when they are asked for: a request a number."""

    def __init__(self, client: MlflowClient, run_id: str, metrics: Mapping[str, float], epochs: int) -> None:
        self._client, self._run_id, self._epochs = client, run_id, epochs
        self._names = [name for name in metrics if not name.startswith(ONCE)] if epochs else []
        self._known: dict[str, list[float]] = {}

    def __getitem__(self, name: str) -> list[float]:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._known:
            points = sorted(self._client.get_metric_history(self._run_id, name), key=lambda p: p.timestamp)
            first: dict[int, float] = {}
            for point in points:  # the last step may hold the chosen epoch's number once more, later
                first.setdefault(point.step, point.value)
            self._known[name] = [first[step] for step in sorted(first)]
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def find_study(name: str, uri: str) -> RemoteStudy | None:
    """The study of an id, or the newest of a space's name; None where MLflow has none.

    Raises:
        AiqError: MLflow does not answer.
    """
    if not _PLAIN.fullmatch(name):
        return None
    client = connect(uri)
    try:
        experiments = [e.experiment_id for e in client.search_experiments()]
        found = list(search_runs(client, experiments, f"tags.`aiq.trial_key` = '{name}'"))
        space = None if found else client.get_experiment_by_name(name)
        if space is not None:
            found = list(search_runs(client, [space.experiment_id], f"tags.`aiq.space` = '{name}'"))
    except MlflowException as error:
        raise unreachable(uri, error) from None
    newest = max(found, key=lambda run: run.info.start_time, default=None)
    return None if newest is None else RemoteStudy(client, newest, uri)


def list_remote_studies(uri: str) -> list[RemoteStudy]:
    """The studies that MLflow has, the oldest first.

    Raises:
        AiqError: MLflow does not answer.
    """
    client = connect(uri)
    try:
        experiments = [e.experiment_id for e in client.search_experiments() if "aiq.space" in e.tags]
        runs = list(search_runs(client, experiments, "tags.`aiq.space` LIKE '%'"))
    except MlflowException as error:
        raise unreachable(uri, error) from None
    return [RemoteStudy(client, run, uri) for run in sorted(runs, key=lambda r: r.info.start_time)]


def _value(written: str, rule: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what the space says
    """A parameter's value from MLflow's text.

    >>> _value("4", {"type": "int"}), _value("relu", {"choices": ["elu", "relu"]}), _value("[1, 2]", {})
    (4, 'relu', [1, 2])
    """
    for choice in rule.get("choices") or ():
        if text(choice) == written:
            return choice
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written
