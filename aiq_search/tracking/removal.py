"""A study's runs as MLflow has them: to compare with the study, and to remove with it.

Like the recorder, this imports mlflow, which takes seconds: import it where it is used.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from aiq_search.errors import AiqError
from aiq_search.redaction import redact

__all__ = ["StudyRun", "connect", "remove_runs", "runs_of", "unreachable"]


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes:
        run_id: MLflow's name for it.
        owner: The trial's key, or the study's id.
        status: RUNNING, FINISHED, FAILED or KILLED.
    """

    run_id: str
    owner: str
    status: str


def runs_of(study: str, space: str, uri: str) -> list[StudyRun]:
    """The runs that a study has in MLflow, of whatever state; deleted ones are left out.

    Args:
        study: The study's id.
        space: Name of its space, which is that of the experiment.
        uri: The store.

    Raises:
        AiqError: MLflow does not answer.
    """
    client = connect(uri)
    runs: list[StudyRun] = []
    try:
        experiment = client.get_experiment_by_name(space)
        token: str | None = None
        while experiment is not None:
            page = client.search_runs(
                [experiment.experiment_id], f"tags.`aiq.study` = '{study}'", ViewType.ACTIVE_ONLY, 1000,
                page_token=token,
            )  # fmt: skip
            for run in page:
                owner = run.data.tags.get("aiq.trial_key", study)
                runs.append(StudyRun(run.info.run_id, owner, run.info.status))
            token = page.token
            if not token:
                break
    except MlflowException as error:
        raise unreachable(uri, error) from None
    return runs


def remove_runs(study: str, space: str, uri: str) -> int:
    """Delete a study's runs; returns how many. MLflow keeps deleted runs until ``mlflow gc``.

    Raises:
        AiqError: MLflow does not answer.
    """
    client = connect(uri)
    runs = runs_of(study, space, uri)
    try:
        for run in runs:
            client.delete_run(run.run_id)
    except MlflowException as error:
        raise unreachable(uri, error) from None
    return len(runs)


def connect(uri: str) -> MlflowClient:
    """A client for a command that a person waits for."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A person waits: two attempts, not MLflow's minutes of them.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return MlflowClient(tracking_uri=uri)


def unreachable(uri: str, error: Exception) -> AiqError:
    """What to tell a person whose MLflow does not answer."""
    lines = redact(str(error)).strip().splitlines()
    return AiqError(f"MLflow at {redact(uri)} does not answer ({lines[0][:200] if lines else 'no reason'}).")
