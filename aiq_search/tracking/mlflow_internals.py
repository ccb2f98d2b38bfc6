"""Everything of MLflow that is not in its documentation.

Each name has a test, which says what to do when a release of MLflow renames it. Importing this imports
mlflow, which takes seconds: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import patch

from mlflow.entities import LifecycleStage, Metric, Run
from mlflow.tracking import MlflowClient
from mlflow.utils import environment, requirements_utils

from aiq_search.tracking.uri import is_server

__all__ = ["RunRow", "last_metrics", "requirements_unchecked", "runs_in_database"]


_CHECK = "warn_dependency_requirement_mismatches"


def _pyfunc() -> ModuleType:
    """The module itself: what ``mlflow`` has under this name stands for it and cannot be changed."""
    return import_module("mlflow.pyfunc")


@contextmanager
def requirements_unchecked() -> Iterator[None]:
    """Have MLflow not check whether a model's requirements are installed, while the context lasts.

    It reads about every package that there is for it, which takes longer than all else of logging a small
    model. For requirements that name what is installed.
    """
    with ExitStack() as changes:
        for module in (environment, _pyfunc(), requirements_utils):
            if hasattr(module, _CHECK):
                changes.enter_context(patch.object(module, _CHECK, lambda requirements: None))
        yield


@dataclass(frozen=True)
class RunRow:
    """A run without its numbers.

    Attributes:
        run_id: MLflow's name for it.
        status: RUNNING, FINISHED, FAILED or KILLED.
        tag: Value of the tag that was asked for.
        active: Whether it was not deleted.
        started: Milliseconds since 1970.
    """

    run_id: str
    status: str
    tag: str | None
    active: bool
    started: int

    @classmethod
    def of(cls, run: Run, tag: str) -> RunRow:
        """The row of a run that MLflow found."""
        active = run.info.lifecycle_stage == LifecycleStage.ACTIVE
        return cls(run.info.run_id, run.info.status, run.data.tags.get(tag), active, run.info.start_time)


def last_metrics(run: Run) -> Sequence[Metric]:
    """The last value of each metric of a run, with its step: ``run.data.metrics`` has no steps."""
    metrics: Sequence[Metric] = run.data._metric_objs
    return metrics


def runs_in_database(
    client: MlflowClient, experiment: str, tag: tuple[str, str], shown: str
) -> list[RunRow] | None:
    """An experiment's runs, active and deleted, with a tag and without their numbers.

    MLflow's own search builds every metric, parameter and tag of each run: a millisecond a run.

    Args:
        client: Of a store.
        experiment: The experiment's id.
        tag: Name and value of a tag that the runs have.
        shown: Name of the tag to show.

    Returns:
        The runs; None where the store is a server, which has no such question.
    """
    if is_server(client.tracking_uri):
        return None
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import select
    from sqlalchemy.orm import aliased

    store = client._tracking_client.store
    if not isinstance(store, SqlAlchemyStore):
        return None
    filtered, other = aliased(SqlTag), aliased(SqlTag)
    query: Any = (
        select(SqlRun.run_uuid, SqlRun.status, other.value, SqlRun.lifecycle_stage, SqlRun.start_time)
        .join(filtered, filtered.run_uuid == SqlRun.run_uuid)
        .outerjoin(other, (other.run_uuid == SqlRun.run_uuid) & (other.key == shown))
        .where(SqlRun.experiment_id == int(experiment), filtered.key == tag[0], filtered.value == tag[1])
    )
    with store.ManagedSessionMaker() as session:
        return [
            RunRow(run_id, status, value, stage == LifecycleStage.ACTIVE, started)
            for run_id, status, value, stage, started in session.execute(query)
        ]
