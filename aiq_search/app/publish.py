"""After a search: its champion and its report go to MLflow."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeAlias

from aiq_search.app.prepare import StudyData
from aiq_search.errors import AiqError, NothingFeasibleError, StudyError, first_line
from aiq_search.redaction import redacted
from aiq_search.study import Event, Phase, Study, StudyView
from aiq_search.study.chance import chance_problem
from aiq_search.study.events import PhaseStarted, TrialStarted

if TYPE_CHECKING:
    from aiq_search.report.figures import NetworkView
    from aiq_search.report.samples import DataSamples
    from aiq_search.tracking import MlflowListener

__all__ = [
    "Preparation",
    "Publish",
    "keep_report",
    "publish_champion",
    "publish_end",
    "publish_nothing",
    "publish_report",
    "registered",
]

_log = logging.getLogger("aiq_search.search")

# Gives MLflow what a finished study has to show; returns a sentence for each part that could not be made.
Publish: TypeAlias = Callable[[Study, "MlflowListener", StudyData], list[str]]


def publish_end(study: Study, listener: MlflowListener, data: StudyData) -> list[str]:
    """Have MLflow keep the champion and the report of a study that has finished.

    Nothing in here can fail a search that is over.

    Args:
        study: The study.
        listener: Delivers to MLflow; close it afterwards.
        data: The study's data.

    Returns:
        A sentence for each part that could not be made.
    """
    notes = []
    for part, publish in (("champion", publish_champion), ("report", publish_report)):
        try:
            publish(study, listener, data)
        except NothingFeasibleError:
            continue
        except Exception as error:
            kind = "" if isinstance(error, AiqError) else f"{type(error).__name__}: "
            notes.append(f"MLflow lacks the study's {part}: {kind}{first_line(error)}")
    return notes


class Preparation:
    """A listener that imports what ``publish_end`` takes, which is seconds, while the last trials train.

    Args:
        wanted: Whether to do so.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._to_start = 0
        self._thread: Thread | None = None

    def on_event(self, event: Event) -> None:
        """Begin with the last exploring trial, or with the finalists; earlier ones need the processors."""
        if isinstance(event, PhaseStarted):
            self._to_start = event.total - event.done if event.phase is Phase.EXPLORE else 0
        elif isinstance(event, TrialStarted):
            self._to_start -= 1
        else:
            return
        if self._wanted and self._to_start <= 0 and self._thread is None:
            self._thread = Thread(target=self._prepare, daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Return once everything is imported."""
        if self._thread is not None:
            self._thread.join()

    @staticmethod
    def _prepare() -> None:
        try:
            from aiq_search.export.warm_up import warm_up

            warm_up()
            for name in ("aiq_search.report.page", "sklearn.ensemble"):  # the latter for Optuna's importances
                import_module(name)
        except Exception:  # publishing meets it again, and reports it
            _log.debug("not prepared for publishing", exc_info=True)


def publish_nothing(study: Study, listener: MlflowListener, data: StudyData) -> list[str]:
    """Leave MLflow with the trials alone: no bundle, no registered model, no report."""
    return []


def publish_champion(study: Study, listener: MlflowListener, data: StudyData) -> Path:
    """Export the champion, and have the listener keep the bundle and register the model.

    A champion that is no better than chance is kept, but not registered.

    Args:
        study: The study.
        listener: Delivers to MLflow.
        data: The study's data.

    Returns:
        The bundle.

    Raises:
        NothingFeasibleError: There is no champion.
        InputError: Its weights or data are gone, or its network cannot be exported.
    """
    from aiq_search.app.bundles import export_study
    from aiq_search.tracking.best import FOLDER as BEST

    folder = study.directory / "champion"
    for earlier in (folder, study.directory / BEST):  # from an earlier end, or written while searching
        shutil.rmtree(earlier, ignore_errors=True)
    folder.mkdir()
    bundle = folder / "bundle"
    exported = export_study(study, bundle, data=data)
    listener.attach(study.id, folder)
    if exported.champion is not None and chance_problem(study.document, exported.champion) is None:
        listener.register(study.id, folder, exported.champion.document())
    return bundle


def publish_report(study: Study, listener: MlflowListener, data: StudyData) -> Path:
    """Write a study's report and pictures, and have the listener keep them in MLflow.

    Args:
        study: The study.
        listener: Delivers to MLflow.
        data: The study's data.

    Returns:
        The report.
    """
    from aiq_search.app.report import search_findings, view_champion, view_data

    view = view_champion(study, data)
    findings = search_findings(study, view, data.code)
    return keep_report(study, listener, view, findings, view_data(study, data))


def keep_report(
    study: StudyView,
    listener: MlflowListener,
    view: NetworkView | None,
    findings: Sequence[str],
    samples: DataSamples | None = None,
) -> Path:
    """Write report, pictures and study.json, and have the listener keep them in MLflow.

    Args:
        study: The study.
        listener: Delivers to MLflow.
        view: What only the networks can show.
        findings: The doctor's sentences about the search.
        samples: What is shown of the data.

    Returns:
        The report.
    """
    from aiq_search.report.page import write_report

    folder = listener.directory / "artifacts"
    path = write_report(
        study, folder / "report.html", view, findings, samples=samples, pictures=folder / "pictures"
    )
    document = json.dumps(redacted(study.document.as_json()), indent=2)
    (folder / "study.json").write_text(document + "\n", encoding="utf-8")
    listener.attach(study.id, folder)
    return path


def registered(study: Study) -> str | None:
    """Whether the registry has the champion, in a sentence; None while that is not known."""
    from aiq_search.tracking.outbox import REGISTERED, Outbox

    try:
        outbox = Outbox(study.directory)
    except StudyError:  # damaged, which `aiq doctor` reports
        return None
    try:
        return outbox.fact(REGISTERED)
    finally:
        outbox.close()
