"""One trial of a study in full, and some of its trials in an order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiq_search.app.look import find_any
from aiq_search.errors import InputError, StudyError
from aiq_search.study import Phase, StudyView, TrialRecord
from aiq_search.study.metrics import UNTRAINED
from aiq_search.suggest import did_you_mean

__all__ = ["select_trials", "trial_document", "trial_of"]


def trial_of(
    name: str | None, number: int, tracking_uri: str | None = None, home: Path | None = None
) -> tuple[StudyView, TrialRecord]:
    """The study that a name means, and its exploring trial of a number.

    Raises:
        StudyError: There is no such study, or it has no such trial.
    """
    study = find_any(name, tracking_uri, home)
    records = study.records(Phase.EXPLORE)
    for record in records:
        if record.key.number == number:
            return study, record
    numbers = f"0 to {max(r.key.number for r in records)}" if records else "none yet"
    raise StudyError(f"study {study.id} has no trial {number}; its trials are {numbers}.")


def select_trials(
    rows: list[dict[str, Any]], *, state: str | None = None, sort: str | None = None, top: int | None = None
) -> list[dict[str, Any]]:
    """Some of the rows of ``trial_rows``, in an order.

    Args:
        rows: The rows.
        state: Keep those of this state alone.
        sort: Sort by this column: the largest first, of loss, sizes and costs the smallest; without a
            value last.
        top: Keep so many of the first.

    Raises:
        InputError: No trial has that column.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if sort is not None and rows and sort not in columns:
        raise InputError(f"--sort {sort}: no trial has that column; {did_you_mean(sort, columns)}")
    chosen = [row for row in rows if state is None or row["state"] == state.upper()]
    if sort is not None:
        having = [row for row in chosen if row.get(sort) is not None]
        small_first = sort in (*UNTRAINED, "loss", "train_loss", "trial", "name")
        try:
            having.sort(key=lambda row: row[sort], reverse=not small_first)
        except TypeError:  # of several types
            having.sort(key=lambda row: str(row[sort]))
        chosen = having + [row for row in chosen if row.get(sort) is None]
    return chosen[:top]


def trial_document(study: StudyView, record: TrialRecord) -> dict[str, Any]:
    """A trial with its curve and its traceback, as JSON."""
    return {
        "study": study.id,
        "trial": record.key.number,
        "state": str(record.state),
        "seed": record.seed,
        "params": dict(record.params),
        "metrics": dict(record.metrics),
        "epoch": record.epoch,
        "curve": {name: list(record.history[name]) for name in record.history},
        "feasible": record.feasible,
        "reason": record.reason,
        "traceback": record.traceback,
    }
