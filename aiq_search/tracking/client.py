"""MLflow's client for commands that a person waits for, and paging through runs for all.

Importing it imports mlflow, which takes seconds: import it where it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from aiq_search.errors import AiqError
from aiq_search.redaction import redact

__all__ = ["connect", "first_line", "search_runs", "unreachable"]

PAGE = 1000  # runs in one answer


def connect(uri: str) -> MlflowClient:
    """A client that gives up after seconds: by default MLflow's tries for minutes."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return MlflowClient(tracking_uri=uri)


def search_runs(
    client: MlflowClient, experiments: Sequence[str], where: str, view: int = ViewType.ACTIVE_ONLY
) -> Iterator[Run]:
    """The runs of experiments that a filter matches, page by page.

    Raises:
        MlflowException: MLflow does not answer.
    """
    token: str | None = None
    while experiments:
        page = client.search_runs(list(experiments), where, view, PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def unreachable(uri: str, error: Exception) -> AiqError:
    """The error to raise for a person whose MLflow does not answer."""
    return AiqError(f"MLflow at {redact(uri)} does not answer ({first_line(error)}).")


def first_line(error: Exception) -> str:
    """What an error says, in one short line without credentials; its type where it says nothing."""
    lines = redact(str(error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
