"""A study's runs as MLflow has them: to compare with the study, and to remove with it.

Like the client, this imports mlflow, which takes seconds: import it where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.exceptions import MlflowException

from aiq_search.tracking.client import connect, search_runs, unreachable
from aiq_search.tracking.mlflow_internals import RunRow, runs_in_database

__all__ = ["StudyRun", "remove_runs", "runs_of"]


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
    try:
        experiment = client.get_experiment_by_name(space)
        if experiment is None:
            return []
        key = "aiq.trial_key"
        rows = runs_in_database(client, experiment.experiment_id, ("aiq.study", study), key)
        if rows is None:
            runs = search_runs(client, [experiment.experiment_id], f"tags.`aiq.study` = '{study}'")
            rows = [RunRow.of(run, key) for run in runs]
        return [StudyRun(row.run_id, row.tag or study, row.status) for row in rows if row.active]
    except MlflowException as error:
        raise unreachable(uri, error) from None


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
