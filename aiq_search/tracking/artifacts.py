"""What a study's run keeps beside its numbers: files, study.json, the data set.

Only the delivery process imports this module: mlflow takes seconds to import.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from aiq_search.redaction import redact
from aiq_search.study.document import FILE, StudyDocument
from aiq_search.tracking import layout
from aiq_search.tracking.store import Store

__all__ = ["log_dataset", "log_document", "log_files"]

_log = logging.getLogger(__name__)

BUNDLE = "bundle"  # where a study's network is among the artifacts


def log_files(store: Store, run_id: str, folder: Path) -> None:
    """Keep the files of a folder with a run."""
    if not folder.is_dir():
        _log.warning("%s is gone: it cannot be kept in MLflow", folder)
        return
    if (folder / BUNDLE).is_dir():
        _remove_bundle(store, run_id)
    store.ask(lambda: store.client.log_artifacts(run_id, str(folder)))


def _remove_bundle(store: Store, run_id: str) -> None:
    """Remove the bundle of an earlier best: files of two networks would make a bundle of neither."""
    try:
        if store.client.list_artifacts(run_id, BUNDLE):
            place = store.client.get_run(run_id).info.artifact_uri
            repository: Any = get_artifact_repository(place, tracking_uri=store.uri)
            repository.delete_artifacts(BUNDLE)
    except Exception as error:  # a store that deletes nothing: the new files replace those of their name
        _log.warning("an earlier bundle stays beside the new one: %s", redact(str(error)))


def log_document(store: Store, run_id: str, document: StudyDocument) -> None:
    """Keep study.json with the run: who has only the tracking URI reads the study from there."""
    try:
        store.client.log_dict(run_id, document.as_json(), FILE)
    except Exception as error:  # a store for artifacts that takes nothing must not hold up the numbers
        _log.warning("%s is not in MLflow before the study's end: %s", FILE, redact(str(error)))


def log_dataset(store: Store, run_id: str, document: StudyDocument) -> None:
    """Name the data set as an input of the run."""
    about = Dataset(
        name=document.dataset.name,
        digest=document.dataset.digest[:36],
        source_type="aiq_search",
        source=document.dataset.name,
        profile=layout.dataset_profile(document),
    )
    tag = InputTag("mlflow.data.context", "training")
    store.ask(lambda: store.client.log_inputs(run_id, [DatasetInput(about, [tag])]))
