"""Where this user's studies and their MLflow runs are, unless a command names another place."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["absolute_tracking_uri", "aiq_home", "default_tracking_uri"]


def aiq_home() -> Path:
    """``AIQ_HOME``, by default ``.aiq`` in the current folder."""
    return Path(os.environ.get("AIQ_HOME") or ".aiq")


def default_tracking_uri() -> str:
    """MLflow's store: ``MLFLOW_TRACKING_URI``, by default the file ``mlflow.db`` in the current folder.

    A plain ``mlflow ui`` looks there too.
    """
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def absolute_tracking_uri(uri: str) -> str:
    """``uri``, or for a SQLite file of this folder its address from anywhere.

    >>> absolute_tracking_uri("https://mlflow.example.org")
    'https://mlflow.example.org'
    """
    path, _, options = uri.removeprefix("sqlite:///").partition("?")
    if not uri.startswith("sqlite:///") or not path or Path(path).is_absolute():
        return uri
    return f"sqlite:///{Path(path).absolute()}" + (f"?{options}" if options else "")
