"""Looking at studies: found in AIQ_HOME or in MLflow, then read as rows, fronts and events."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.errors import AiqError, NothingFeasibleError, StudyError
from aiq_search.redaction import redact
from aiq_search.study import (
    Champion,
    Event,
    ParetoFront,
    Phase,
    PhaseStarted,
    Study,
    StudyEnded,
    StudyStarted,
    StudyView,
    TrialEnded,
    TrialRecord,
    TrialState,
    front_of,
    list_studies,
    unreadable_studies,
)
from aiq_search.study.finalists import Verdict, tied_with, verdicts_of
from aiq_search.study.home import aiq_home
from aiq_search.study.reference import Comparison, comparison_of
from aiq_search.tracking import check_tracking_uri, default_tracking_uri
from aiq_search.tracking.uri import is_server

if TYPE_CHECKING:
    from aiq_search.tracking.reading import RemoteStudy

__all__ = [
    "Choice",
    "Watch",
    "all_studies",
    "best_of",
    "describe_study",
    "find_any",
    "pareto_of",
    "study_rows",
    "trial_rows",
    "trials_of",
]

# ---- finding ---------------------------------------------------------------------------------------------


def find_any(
    name: str | None = None, tracking_uri: str | None = None, home: Path | None = None
) -> Study | RemoteStudy:
    """Open the study of an id, or the newest of a space's name, from its folder or else from MLflow.

    Args:
        name: A study's id, or a space's name; by default the newest study of all in which a trial has begun.
        tracking_uri: MLflow's store; by default ``MLFLOW_TRACKING_URI``, or ``./mlflow.db`` if it exists.
        home: AIQ_HOME.

    Raises:
        StudyError: Neither has it.
        AiqError: MLflow does not answer.
    """
    home = home or aiq_home()
    if name is None:
        return _latest(tracking_uri, home)
    try:
        return _newest(Study.open(name, home), name, tracking_uri)
    except StudyError as error:
        uri = _existing_store(tracking_uri)
        if uri is None or (home / "studies" / name).exists():
            raise
        from aiq_search.tracking.reading import find_study

        remote = find_study(name, uri)
        if remote is None:
            raise StudyError(f"{error} MLflow at {redact(uri)} has no such study either.") from None
        return remote


def _latest(tracking_uri: str | None, home: Path) -> Study | RemoteStudy:
    """The newest study in which a trial has begun: one that failed to start must not hide it."""
    studies = all_studies(tracking_uri, home)
    if not studies:
        raise StudyError(f"there is no study in {home.absolute()} yet; start one: aiq search FILE")
    for study in reversed(studies):
        with suppress(StudyError):  # a damaged one, which `aiq studies` lists
            if study.records(Phase.EXPLORE):
                return study
    return studies[-1]


def _newest(here: Study, name: str, tracking_uri: str | None) -> Study | RemoteStudy:
    """The newer of a study on this machine and the one that a server has by a space's name.

    Of the same space there may be one that was submitted to a cluster, and one that was run here.
    """
    uri = tracking_uri or default_tracking_uri()
    if here.id == name or not is_server(uri):
        return here
    from aiq_search.tracking.reading import find_study

    try:
        remote = find_study(name, uri)
        if remote is None or remote.id == here.id or remote.document.created <= here.document.created:
            return here
    except AiqError:
        return here  # which needs no server to be looked at
    return remote


def all_studies(tracking_uri: str | None = None, home: Path | None = None) -> list[Study | RemoteStudy]:
    """The studies in AIQ_HOME, then those that MLflow alone has.

    MLflow is asked where a store is named (``MLFLOW_TRACKING_URI``, ``tracking_uri``), or where AIQ_HOME
    has no study: asking takes seconds.

    Raises:
        AiqError: MLflow does not answer.
    """
    studies: list[Study | RemoteStudy] = list(list_studies(home or aiq_home()))
    named = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    uri = _existing_store(tracking_uri) if named or not studies else None
    if uri is None:
        return studies
    from aiq_search.tracking.reading import list_remote_studies

    here = {study.id for study in studies}
    return [*studies, *(study for study in list_remote_studies(uri) if study.id not in here)]


def _existing_store(tracking_uri: str | None) -> str | None:
    """The store to read from; None where there is none (opening a SQLite file would create it)."""
    uri = check_tracking_uri(tracking_uri or default_tracking_uri())
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///").partition("?")[0]).is_file():
        return None
    return uri


# ---- studies and trials as rows ---------------------------------------------------------------------------


def study_rows(tracking_uri: str | None = None, home: Path | None = None) -> list[dict[str, Any]]:
    """A row for each of ``all_studies``, see ``describe_study``, then for those that cannot be read."""
    rows = [describe_study(study) for study in all_studies(tracking_uri, home)]
    unreadable = unreadable_studies(home or aiq_home())
    return rows + [_without_records(name, "unreadable", error) for name, error in unreadable.items()]


def describe_study(study: StudyView) -> dict[str, Any]:
    """Id, time, status and counts of a study.

    Its status is running (a driver holds it), finished (nothing is left to train), interrupted, empty,
    unreachable (its database does not answer), or damaged; then its error is a sentence: a study that cannot
    be read must not hide the others.
    """
    try:
        records, document = study.records(), study.document
    except StudyError as error:
        return _unreadable(study, error)
    counts = Counter(record.state for record in records)
    row: dict[str, Any] = {
        "study": study.id,
        "space": study.space.name,
        "created": document.created,
        "status": _status(study, records),
        "trials": len(records),
        "complete": counts[TrialState.COMPLETE],
        "pruned": counts[TrialState.PRUNED],
        "failed": counts[TrialState.FAIL],
        "running": counts[TrialState.RUNNING],
        "best_aiq": None,
        "champion": None,
        "error": None,
    }
    try:
        champion = study.champion()
    except NothingFeasibleError:
        return row
    return {**row, "best_aiq": champion.validation["aiq"].mean, "champion": champion.trial}


def _unreadable(study: StudyView, error: StudyError) -> dict[str, Any]:
    try:
        document = study.document
    except StudyError:  # one of which MLflow has the run alone
        return _without_records(study.id, "damaged", error)
    row = _without_records(study.id, "unreachable" if document.trials_url else "damaged", error)
    return row | {"space": study.space.name, "created": document.created}


def _without_records(name: str, status: str, error: StudyError) -> dict[str, Any]:
    return {"study": name, "space": None, "created": None, "status": status, "error": str(error)}


def _status(study: StudyView, records: list[TrialRecord]) -> str:
    if study.is_running:
        return "running"
    if study.document.ended == "finished":
        return "finished"
    return "interrupted" if records else "empty"


def trials_of(
    name: str | None = None, tracking_uri: str | None = None, home: Path | None = None
) -> tuple[StudyView, list[dict[str, Any]]]:
    """The study that a name means, and a row for each of its trials; see ``find_any``."""
    study = find_any(name, tracking_uri, home)
    return study, trial_rows(study)


def trial_rows(study: StudyView) -> list[dict[str, Any]]:
    """A row for each trial: name, state, numbers, parameters, and why it ended.

    ``trial`` is the exploring trial whose configuration was trained, of a grid's cell the first; ``number``
    counts within a phase.
    """
    rows = []
    first: dict[str, int] = {}  # of each cell
    for record in study.records():
        number = record.key.number if record.origin is None else record.origin
        if record.origin is None and record.replicate is not None:
            number = first.setdefault(record.config_hash, number)
        seconds = None
        if record.started is not None and record.ended is not None:
            seconds = round(record.ended - record.started, 3)
        rows.append(
            {
                "name": record.name,
                "phase": str(record.key.phase),
                "trial": number,
                "number": record.key.number,
                "replicate": record.replicate,
                "state": str(record.state),
                "value": record.value,
                **record.metrics,
                **record.params,
                "seed": record.seed,
                "epoch": record.epoch,
                "epochs": record.epochs,
                "collapsed": record.collapsed,
                "feasible": record.feasible,
                "seconds": seconds,
                "reason": record.reason,
            }
        )
    return rows


# ---- champion and front -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """What a study chose, and why.

    Attributes:
        study: The study.
        champion: Its champion, or the best trial so far; None where nothing meets the constraints.
        reason: Why there is no champion.
        comparison: The champion beside the reference network; None where it is the most accurate itself.
        verdicts: How each finalist came out.
    """

    study: StudyView
    champion: Champion | None
    reason: str | None
    comparison: Comparison | None
    verdicts: Sequence[Verdict]

    @classmethod
    def of(cls, study: StudyView) -> Choice:
        """What a study has chosen so far."""
        champion, reason = None, None
        try:
            champion = study.champion()
        except NothingFeasibleError as error:
            reason = str(error)
        return cls(study, champion, reason, comparison_of(study), verdicts_of(study))

    def document(self) -> dict[str, Any]:
        """The document of ``aiq best --format json``."""
        champion = {} if self.champion is None else self.champion.document()
        data = self.study.document.dataset
        return champion | {
            "finalists": [verdict.document() for verdict in self.verdicts],
            "tied_with": tied_with(self.verdicts),
            "reference": None if self.comparison is None else self.comparison.document(),
            "majority": {split: data.majority(split) for split in ("validation", "test")},
        }


def best_of(name: str | None = None, tracking_uri: str | None = None, home: Path | None = None) -> Choice:
    """What the study that a name means chose, and why.

    Raises:
        StudyError: There is no such study.
    """
    return Choice.of(find_any(name, tracking_uri, home))


def pareto_of(
    name: str | None = None, tracking_uri: str | None = None, home: Path | None = None
) -> tuple[StudyView, ParetoFront]:
    """The study that a name means, and its Pareto front; see ``find_any``."""
    study = find_any(name, tracking_uri, home)
    return study, front_of(study)


# ---- watching ---------------------------------------------------------------------------------------------


class Watch:
    """A look at a study that another process runs, through what that process has written.

    Args:
        name: A study's id, or a space's name; see ``find_any``.
        tracking_uri: MLflow's store.
        home: AIQ_HOME.
    """

    def __init__(
        self, name: str | None = None, tracking_uri: str | None = None, home: Path | None = None
    ) -> None:
        self.study = find_any(name, tracking_uri, home)

    def row(self) -> dict[str, Any]:
        """The study's row as it is now; see ``describe_study``."""
        return describe_study(self.study.refreshed())

    def events(self, every: float = 2.0) -> Iterator[Event]:
        """The events so far, then those to come, until no driver runs the study.

        Args:
            every: Polling interval, in seconds.

        Yields:
            Each event once. After those of the past, the phase starts once more, so that a listener's clock
            starts with the present; and again where it turns out longer or shorter, as a race does.
        """
        from aiq_search.tracking.letters import event_id
        from aiq_search.tracking.reconcile import events_of

        study, seen, totals, first = self.study, set[str](), dict[Phase, int](), True
        while True:
            running = study.is_running  # asked first: what is written meanwhile is read in the next turn
            done: Counter[Phase] = Counter()
            for event in events_of(study):
                if isinstance(event, TrialEnded):
                    done[event.key.phase] += 1
                if event_id(event) in seen:
                    continue
                seen.add(event_id(event))
                phase = None if isinstance(event, StudyStarted) else event.key.phase  # type: ignore[union-attr]
                if phase is not None and phase not in totals:
                    totals[phase] = _total(study, phase)
                    yield PhaseStarted(study.id, phase, totals[phase], 0, time.time())
                yield event
            if not running:
                counts = Counter(str(record.state) for record in study.records())
                yield StudyEnded(study.id, study.document.ended or "interrupted", time.time(), counts)
                return
            if totals:
                phase = max(totals, key=list(Phase).index)
                total = _total(study, phase)
                if (first and done) or total != totals[phase]:
                    totals[phase] = total
                    yield PhaseStarted(study.id, phase, total, done[phase], time.time())
            first = False
            time.sleep(every)
            study = study.refreshed()


def _total(study: StudyView, phase: Phase) -> int:
    """How many trials a phase has, as far as whoever only looks can know."""
    confirm = study.space.confirm
    if phase is Phase.EXPLORE:
        return study.space.search.trials
    if phase is Phase.REFERENCE:
        return len(study.records(phase))
    if not confirm.races:
        return confirm.trainings
    seeds = [record.replicate or 0 for record in study.records(phase)]
    raced = sum(seed < confirm.runs for seed in seeds)
    over = len(seeds) > raced  # the champion's further seeds are numbered from there
    return (raced if over else max(raced, confirm.runs)) + confirm.seeds
