"""Taking a registered model home: the bundle that lies with its run in MLflow."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.errors import InputError
from aiq_search.export import Verification, copy_bundle
from aiq_search.redaction import redact
from aiq_search.tracking import check_tracking_uri, default_tracking_uri
from aiq_search.user_code import CodePolicy

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

__all__ = ["export_registered", "is_registered"]

# Where a run's bundle lies among its artifacts.
ARTIFACT = "bundle"
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def is_registered(name: str) -> bool:
    """Whether a name means a registered model.

    >>> is_registered("models:/aiq-digits@champion"), is_registered("digits")
    (True, False)
    """
    return name.startswith("models:/")


def export_registered(
    uri: str,
    output: Path,
    *,
    tracking_uri: str | None = None,
    force: bool = False,
    data_dir: Path | None = None,
    with_data: bool = True,
    allow_code: Sequence[str] = (),
) -> Verification:
    """Download the bundle of a registered model, and verify it before it takes its place.

    Args:
        uri: ``models:/name@alias`` or ``models:/name/version``.
        output: The directory to write; must not exist.
        tracking_uri: MLflow's store; by default ``MLFLOW_TRACKING_URI``, or ``./mlflow.db``.
        force: Replace a bundle that is there.
        data_dir: Folder of the data files.
        with_data: Whether to verify what needs the data.
        allow_code: Packages that the bundle may name besides modules of the working folder.

    Returns:
        What was verified.

    Raises:
        InputError: There is no such model, or no bundle with it.
        BundleError: The bundle is damaged, unsafe, or not what its card says.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise InputError(f"expected models:/name@alias or models:/name/version, but got {uri!r}.")
    store = check_tracking_uri(tracking_uri or default_tracking_uri())
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with tempfile.TemporaryDirectory() as scratch:
        downloaded = _download(uri, match, store, Path(scratch))
        return copy_bundle(
            downloaded,
            output,
            force=force,
            data_dir=data_dir,
            with_data=with_data,
            code=CodePolicy.for_running(allow_code),
        )


def _download(uri: str, match: re.Match[str], store: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store)
    try:
        run = _run_with_bundle(client, _version(client, match))
        if run is not None:
            path = f"runs:/{run.info.run_id}/{ARTIFACT}"
            return Path(download_artifacts(path, dst_path=str(folder), tracking_uri=store))
    except MlflowException as error:
        raise InputError(f"{uri}: {redact(store)} answers: {error.message}") from None
    raise InputError(
        f"{uri}: neither its run nor the run above it has the artifact {ARTIFACT!r}; export the study itself "
        "where its folder is: aiq export STUDY."
    )


def _version(client: MlflowClient, match: re.Match[str]) -> ModelVersion:
    if match["alias"]:
        return client.get_model_version_by_alias(match["name"], match["alias"])
    return client.get_model_version(match["name"], match["version"])


def _run_with_bundle(client: MlflowClient, version: ModelVersion) -> Run | None:
    """The version's run, or the one above it: a study's bundle lies with the study's run."""
    run_id = version.run_id
    while run_id:
        run = client.get_run(run_id)
        if client.list_artifacts(run_id, ARTIFACT):
            return run
        run_id = run.data.tags.get("mlflow.parentRunId")
    return None
