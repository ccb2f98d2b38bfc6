"""Removing a study: its folder, its trials in a database, and its runs in MLflow."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiq_search.errors import AiqError, StudyError
from aiq_search.files import Place, size_of
from aiq_search.study import Study
from aiq_search.study.home import aiq_home

__all__ = ["Removal", "delete_study", "what_goes"]


@dataclass(frozen=True)
class Removal:
    """What goes with a study.

    Attributes:
        study: Its id.
        folder: Its folder.
        trials: How many it has.
        bytes: Size of the folder, and of its files in the storage that nodes share.
        tracking_uri: Where its runs are; None where they are kept.
        runs: How many were removed.
    """

    study: str
    folder: Path
    trials: int
    bytes: int
    tracking_uri: str | None
    runs: int = 0


def what_goes(name: str, *, tracking_uri: str | None = None, home: Path | None = None) -> Removal:
    """What ``delete_study`` would remove, to ask about it.

    Raises:
        StudyError: There is no such study.
    """
    study = Study.find(home or aiq_home(), name)
    places: list[Place] = [study.directory]
    if study.document.checkpoint_place:
        places.append(study.files)
    uri = study.tracking_uri(tracking_uri)
    return Removal(study.id, study.directory, _trials_of(study), sum(map(size_of, places)), uri)


def _trials_of(study: Study) -> int:
    """How many trials there are; none where a removal was cut off, or the storage is damaged."""
    with suppress(StudyError):
        return len(study.records())
    return 0


def delete_study(
    name: str, *, keep_runs: bool = False, tracking_uri: str | None = None, home: Path | None = None
) -> Removal:
    """Remove a study: its runs first, its folder last, so that what fails can be tried again.

    Args:
        name: Its id, or its space's name for the newest.
        keep_runs: Leave the runs in MLflow.
        tracking_uri: Where the runs are; by default where the study put them.
        home: AIQ_HOME.

    Raises:
        StudyError: There is no such study, or a driver holds it.
        AiqError: MLflow does not answer; nothing was removed.
    """
    home = home or aiq_home()
    plan = what_goes(name, tracking_uri=tracking_uri, home=home)
    study = Study.open(home, plan.study)
    removed = 0
    with study.held():
        if not keep_runs and plan.tracking_uri is not None:
            removed = _remove_runs(study, plan.tracking_uri)
        study.delete()
    uri = None if keep_runs else plan.tracking_uri
    return Removal(plan.study, plan.folder, plan.trials, plan.bytes, uri, removed)


def _remove_runs(study: Study, uri: str) -> int:
    from aiq_search.tracking.removal import remove_runs

    try:
        return remove_runs(study.id, study.space.name, uri)
    except AiqError as error:
        raise AiqError(
            f"{error} Nothing was removed: start MLflow, name it with --tracking-uri, or leave the runs with "
            "--keep-runs."
        ) from None
