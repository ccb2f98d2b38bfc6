"""One MLflow store to write to: requests, and which of their failures are final.

Only the delivery process imports this module: mlflow takes seconds to import.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine
from sqlalchemy.event import listens_for

from aiq_search.redaction import redact
from aiq_search.tracking.layout import Point, milliseconds, text

__all__ = ["RefusedError", "Store"]

T = TypeVar("T")

# What no second attempt can change. All else (no connection, 401, 429, 5xx, a locked file) is tried again.
_FINAL = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "MALFORMED_REQUEST"}


@listens_for(Engine, "connect")
def _keep_journal(connection: object, record: object) -> None:
    """Have MLflow's SQLite file overwrite its rollback journal instead of making one for each commit.

    As safe, and a trial takes a quarter less time. The mode is this connection's alone; a file that its
    owner has put into another one (WAL, say) stays as it is.
    """
    if isinstance(connection, sqlite3.Connection):
        [(mode,)] = connection.execute("PRAGMA journal_mode")
        if mode == "delete":
            connection.execute("PRAGMA journal_mode = PERSIST")


class RefusedError(Exception):
    """MLflow will never take this."""


class Store:
    """Writes to one MLflow store.

    Args:
        uri: The store.

    Attributes:
        uri: The store.
        client: MLflow's client; call it within ``ask``.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri)

    def ask(self, request: Callable[[], T]) -> T:
        """Make a request.

        Raises:
            RefusedError: MLflow will never take it.
            MlflowException: It failed for now.
        """
        try:
            return request()
        except MlflowException as error:
            if error.error_code in _FINAL:
                raise RefusedError(redact(str(error))) from error
            raise

    def log(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics, parameters and tags in one request (more than 1000 values: in several)."""
        metrics = [Metric(p.name, p.value, p.timestamp, p.step) for p in points]
        written = [Param(name, text(value)) for name, value in (params or {}).items()]
        labels = [RunTag(name, value) for name, value in (tags or {}).items()]
        self.ask(lambda: self.client.log_batch(run_id, metrics, written, labels))

    def reopen(self, run_id: str) -> None:
        """Have a run be RUNNING again."""
        self.ask(lambda: self.client.update_run(run_id, "RUNNING"))

    def close(self, run_id: str, status: str, time: float) -> None:
        """End a run."""
        self.ask(lambda: self.client.set_terminated(run_id, status, milliseconds(time)))
