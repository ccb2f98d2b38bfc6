"""Running a study's failed trials again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiq_search.app.search import SearchResult, resume_search
from aiq_search.errors import InputError
from aiq_search.study import Study
from aiq_search.study.home import aiq_home

__all__ = ["retry_failed"]


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
        notes = study.repair()
        if not study.queue_failed():
            raise InputError(
                f"study {study.id} has no failed trial to run again; `aiq resume {study.id}` continues it."
            )
    result = resume_search(study.id, home=home, **options)
    return result if not notes else _with_notes(result, notes)


def _with_notes(result: SearchResult, notes: list[str]) -> SearchResult:
    from dataclasses import replace

    return replace(result, notes=(*notes, *result.notes))
