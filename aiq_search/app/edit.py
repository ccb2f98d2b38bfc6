"""Changing a study: remove it, or run its failed trials again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiq_search.app.options import RunOptions
from aiq_search.app.prepare import prepare_existing
from aiq_search.app.result import Announce, SearchResult
from aiq_search.app.run import run_prepared, showing
from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.places import LocalPath, Place
from aiq_search.study import Study, StudyListener

__all__ = ["Removal", "delete_study", "retry_failed"]


@dataclass(frozen=True)
class Removal:
    """What is removed with a study.

    Attributes:
        study: Its id.
        folder: Its folder.
        trials: How many it has.
        bytes: Size of the folder, and of its files in the storage that nodes share.
        tracking_uri: Where its runs are; None where they are kept.
        runs: How many were removed.
        done: Whether it was removed.
    """

    study: str
    folder: Path
    trials: int
    bytes: int
    tracking_uri: str | None
    runs: int = 0
    done: bool = False


def delete_study(
    name: str,
    *,
    agree: Callable[[Removal], bool] = lambda plan: True,
    keep_runs: bool = False,
    tracking_uri: str | None = None,
    home: Path | None = None,
) -> Removal:
    """Remove a study: its runs first, its folder last, so that what fails can be tried again.

    Args:
        name: Its id, or its space's name for the newest.
        agree: Called with what would be removed; nothing is removed unless it returns True.
        keep_runs: Leave the runs in MLflow.
        tracking_uri: Where the runs are; by default where the study put them.
        home: AIQ_HOME.

    Raises:
        StudyError: There is no such study, or a driver holds it.
        AiqError: MLflow does not answer; nothing was removed.
    """
    study = Study.open(name, home)
    plan = _plan(study, None if keep_runs else study.tracking_uri(tracking_uri))
    if not agree(plan):
        return plan
    runs = 0
    with study.held():
        if plan.tracking_uri is not None:
            runs = _remove_runs(study, plan.tracking_uri)
        study.delete()
    return replace(plan, runs=runs, done=True)


def _plan(study: Study, tracking_uri: str | None) -> Removal:
    places: list[Place] = [LocalPath(study.directory)]
    if study.document.checkpoint_place:
        places.append(study.files)
    trials = 0
    with suppress(StudyError):  # an earlier removal was interrupted, or the storage is damaged
        trials = len(study.records())
    return Removal(study.id, study.directory, trials, sum(place.size() for place in places), tracking_uri)


def _remove_runs(study: Study, uri: str) -> int:
    from aiq_search.tracking.removal import remove_runs

    try:
        return remove_runs(study.id, study.space.name, uri)
    except AiqError as error:
        raise AiqError(
            f"{error} Nothing was removed: start MLflow, name it with --tracking-uri, or keep the runs with "
            "--keep-runs."
        ) from None


def retry_failed(
    name: str,
    options: RunOptions | None = None,
    *,
    listeners: Iterable[StudyListener] = (),
    progress: bool | None = None,
    announce: Announce | None = None,
    **changes: Any,  # noqa: ANN401
) -> SearchResult:
    """Run a study's failed trials again, and continue with whatever else is left to train.

    Args:
        name: The study's id, or its space's name for the newest.
        options: What it is run with.
        listeners: Receive every event.
        progress: See ``run_search``.
        announce: See ``run_search``.
        changes: Fields of ``RunOptions``, in place of those of ``options``.

    Raises:
        StudyError: There is no such study, or another driver holds it.
        InputError: No trial failed.
    """
    options = replace(options or RunOptions(), **changes)
    study = Study.open(name, options.home)
    with study.held():
        notes = study.repair()
        if not study.queue_failed():
            raise InputError(
                f"study {study.id} has no failed trial to run again; `aiq resume {study.id}` continues it."
            )
    with showing(progress, listeners, announce) as (heard, tell):
        prepared = prepare_existing(study, options)
        prepared.notes[:0] = notes
        return run_prepared(prepared, listeners=heard, announce=tell)
