"""The bundle of a registered model: it is among the artifacts of the model's run, or of the run above that.

Importing this imports mlflow, which takes seconds: do so where it is used.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from aiq_search.errors import InputError
from aiq_search.redaction import redact

__all__ = ["BUNDLE", "download_registered"]

# Where a run's bundle is among its artifacts.
BUNDLE = "bundle"

_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def download_registered(uri: str, store: str, folder: Path) -> Path:
    """Download the bundle of a registered model.

    Args:
        uri: ``models:/name@alias`` or ``models:/name/version``.
        store: MLflow's store.
        folder: Where to.

    Returns:
        The bundle, which is not verified.

    Raises:
        InputError: There is no such model, or it has no bundle.
    """
    match = _MODEL.fullmatch(uri)
    if match is None:
        raise InputError(f"expected models:/name@alias or models:/name/version, but got {uri!r}.")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    client = MlflowClient(tracking_uri=store)
    try:
        run_id = _run_with_bundle(client, _version(client, match))
        if run_id is not None:
            path = f"runs:/{run_id}/{BUNDLE}"
            return Path(download_artifacts(path, dst_path=str(folder), tracking_uri=store))
    except MlflowException as error:
        raise InputError(f"{uri}: {redact(store)} answers: {error.message}") from None
    raise InputError(
        f"{uri}: neither its run nor the run above it has the artifact {BUNDLE!r}; export the study itself "
        "where its folder is: aiq export STUDY."
    )


def _version(client: MlflowClient, match: re.Match[str]) -> ModelVersion:
    if match["alias"]:
        return client.get_model_version_by_alias(match["name"], match["alias"])
    return client.get_model_version(match["name"], match["version"])


def _run_with_bundle(client: MlflowClient, version: ModelVersion) -> str | None:
    """The version's run, or the one above it: a study's bundle belongs to the study's run."""
    run_id: str | None = version.run_id
    while run_id and not client.list_artifacts(run_id, BUNDLE):
        run_id = client.get_run(run_id).data.tags.get("mlflow.parentRunId")
    return run_id or None
