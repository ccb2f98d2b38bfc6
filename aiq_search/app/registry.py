"""The champion in MLflow: its bundle with the study's run, its graph in the model registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.errors import AiqError, NothingFeasibleError
from aiq_search.study import Study
from aiq_search.tracking.best import FOLDER as BEST

if TYPE_CHECKING:
    from aiq_search.tracking import MlflowListener

__all__ = ["publish_champion", "publish_end", "registered"]


def publish_end(study: Study, listener: MlflowListener, data_dir: Path | None = None) -> list[str]:
    """At the end of a search: have MLflow keep the champion and the report.

    Nothing in here can fail a search that is over.

    Args:
        study: The study.
        listener: Delivers to MLflow; close it afterwards.
        data_dir: Folder of the data files; by default the study's.

    Returns:
        A sentence for each part that could not be made.
    """
    from aiq_search.app.report import publish_report

    notes = []
    for what, publish in (("champion", publish_champion), ("report", publish_report)):
        try:
            publish(study, listener, data_dir)
        except NothingFeasibleError:
            continue
        except Exception as error:
            said = str(error).strip().splitlines() or [""]
            kind = "" if isinstance(error, AiqError) else f"{type(error).__name__}: "
            notes.append(f"MLflow lacks the study's {what}: {kind}{said[0]}")
    return notes


def publish_champion(study: Study, listener: MlflowListener, data_dir: Path | None = None) -> Path:
    """Export the champion, and have the listener keep the bundle and register the model.

    Args:
        study: The study.
        listener: Delivers to MLflow.
        data_dir: Folder of the data files; by default the study's.

    Returns:
        The bundle.

    Raises:
        NothingFeasibleError: There is no champion.
        InputError: Its weights or data are gone, or its network cannot be exported.
    """
    from aiq_search.app.export import export_study

    folder = study.directory / "champion"
    for earlier in (folder, study.directory / BEST):  # of an earlier end, and of the way there
        shutil.rmtree(earlier, ignore_errors=True)
    folder.mkdir()
    bundle = folder / "bundle"
    export_study(study.id, bundle, data_dir=data_dir, home=study.directory.parent.parent)
    listener.attach(study.id, folder)
    listener.register(study.id, folder, study.champion().document())
    return bundle


def registered(study: Study) -> str | None:
    """What became of the champion in the registry, in a sentence; None if nothing is known yet."""
    from aiq_search.tracking.outbox import REGISTERED, Outbox

    outbox = Outbox(study.directory)
    try:
        return outbox.fact(REGISTERED)
    finally:
        outbox.close()
