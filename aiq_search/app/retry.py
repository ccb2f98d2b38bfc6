"""Running a study's failed trials again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiq_search.app.search import SearchResult, repaired, resume_search
from aiq_search.errors import InputError
from aiq_search.study import Phase, Study, TrialRecord, TrialState
from aiq_search.study.home import aiq_home

__all__ = ["failed_trials", "queue_again", "retry_failed"]


def failed_trials(study: Study) -> list[TrialRecord]:
    """The trials that failed and have not been run again."""
    from aiq_search.study.record import without_retried

    records = without_retried(study.records())
    return [r for r in records if r.state is TrialState.FAIL and r.copied_from is None]


def queue_again(study: Study) -> int:
    """Queue the failed trials: same configuration and seed, a new number; returns how many.

    A told trial is told for ever, so the new one names the old one, which no longer counts. Hold the study.
    """
    from aiq_search.study.record import BEGIN

    failed = failed_trials(study)
    for phase in Phase:
        again = study.load(phase)
        queued = {t.user_attrs[BEGIN].get("retry_of") for t in again.trials if BEGIN in t.user_attrs}
        for record in failed:
            if record.key.phase is not phase or record.key.number in queued:
                continue
            begin: dict[str, Any] = {
                "params": dict(record.params),
                "seed": record.seed,
                "config_hash": record.config_hash,
                "retry_of": record.key.number,
            }
            if record.origin is not None:
                begin |= {"origin": record.origin, "replicate": record.replicate}
            again.enqueue_trial(study.space.encode(record.params), user_attrs={BEGIN: begin})
    if any(record.key.phase is Phase.EXPLORE for record in failed) and study.finalists:
        # One of them may belong among the finalists: those are chosen anew, and what is confirmed stays.
        study.choose_finalists_anew()
    return len(failed)


def retry_failed(name: str, *, home: Path | None = None, **options: Any) -> SearchResult:  # noqa: ANN401
    """Run a study's failed trials again, and go on with whatever else is left to do.

    Args:
        name: The study's id, or its space's name for the newest.
        home: AIQ_HOME.
        options: Those of ``resume_search``.

    Raises:
        StudyError: There is no such study, or another driver holds it.
        InputError: No trial failed.
    """
    home = home or aiq_home()
    study = Study.find(home, name)
    with study.held():
        notes = repaired(study)
        if not queue_again(study):
            raise InputError(
                f"study {study.id} has no failed trial to run again; `aiq resume {study.id}` continues it."
            )
    result = resume_search(study.id, home=home, **options)
    return result if not notes else _with_notes(result, notes)


def _with_notes(result: SearchResult, notes: list[str]) -> SearchResult:
    from dataclasses import replace

    return replace(result, notes=(*notes, *result.notes))
