"""Looking at studies: rows for tables, JSON and CSV."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiq_search.app.remote import AnyStudy
from aiq_search.errors import NothingFeasibleError, StudyError
from aiq_search.study import TrialRecord, TrialState

__all__ = ["describe_study", "trial_rows"]


def describe_study(study: AnyStudy) -> dict[str, Any]:
    """Id, time, status and counts of a study.

    Its status is running (a driver holds it), finished (nothing is left to do), interrupted, unreachable
    (its database does not answer), or damaged: one that cannot be read must not hide the others.
    """
    try:
        records, document = study.records(), study.document
    except StudyError:
        return _unreadable(study)
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
    }
    try:
        champion = study.champion()
    except NothingFeasibleError:
        return row
    return {**row, "best_aiq": champion.validation["aiq"].mean, "champion": champion.trial}


def _unreadable(study: AnyStudy) -> dict[str, Any]:
    try:
        document = study.document
    except StudyError:  # one of which MLflow has the run alone
        return {"study": study.id, "space": None, "created": None, "status": "damaged"}
    known = {"study": study.id, "space": study.space.name, "created": document.created}
    return {**known, "status": "unreachable" if document.trials_url else "damaged"}


def _status(study: AnyStudy, records: list[TrialRecord]) -> str:
    if study.is_running:
        return "running"
    if study.document.ended == "finished":
        return "finished"
    return "interrupted" if records else "empty"


def trial_rows(study: AnyStudy) -> list[dict[str, Any]]:
    """One row a trial: name, state, numbers, parameters, and why it ended."""
    rows = []
    for record in study.records():
        seconds = None
        if record.started is not None and record.ended is not None:
            seconds = round(record.ended - record.started, 3)
        rows.append(
            {
                "name": record.name,
                "phase": str(record.key.phase),
                "trial": record.key.number,
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
