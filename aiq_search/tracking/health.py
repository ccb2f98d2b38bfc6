"""Whether MLflow can take runs now."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from aiq_search.http import fetch, root_cause
from aiq_search.redaction import redact

__all__ = ["mlflow_trouble"]


def mlflow_trouble(uri: str) -> str | None:
    """Why MLflow cannot take runs now, in one sentence; None if it can, as far as can be seen from here.

    This is no reason to stop: events wait in the study's outbox.
    """
    if uri.startswith(("http://", "https://")):
        reason = _server_trouble(uri)
        if reason is None:
            return None
        return (
            f"MLflow at {redact(uri)} {reason}: start it, or correct --tracking-uri; until then events wait."
        )
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute().parent
        if not os.access(folder, os.W_OK):
            return f"MLflow's store {redact(uri)} cannot be written: choose a --tracking-uri that can."
    return None


def _server_trouble(uri: str) -> str | None:
    import requests

    parts = urllib.parse.urlsplit(uri.rstrip("/"))
    try:
        fetch(parts._replace(path=f"{parts.path}/health").geturl(), timeout=5)
    except requests.HTTPError as error:
        return f"answers {error.response.status_code if error.response is not None else 'with an error'}"
    except (OSError, ValueError) as error:
        return f"does not answer ({redact(root_cause(error))})"
    return None
