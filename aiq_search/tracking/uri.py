"""Where MLflow keeps its records."""

from __future__ import annotations

from pathlib import Path

from aiq_search.errors import InputError
from aiq_search.redaction import redact
from aiq_search.study.home import absolute_tracking_uri, default_tracking_uri

__all__ = [
    "absolute_tracking_uri",
    "artifact_root",
    "check_tracking_uri",
    "default_tracking_uri",
    "is_server",
]


def is_server(uri: str) -> bool:
    """Whether ``uri`` names an MLflow server.

    >>> is_server("https://mlflow.example.org"), is_server("sqlite:///mlflow.db")
    (True, False)
    """
    return uri.startswith(("http://", "https://"))


def check_tracking_uri(uri: str) -> str:
    """Return ``uri`` if MLflow can keep runs there.

    Raises:
        InputError: ``uri`` is neither a server nor a database (MLflow's folder store is no more).
    """
    known = ("http://", "https://", "sqlite:///", "postgresql", "mysql", "mssql", "databricks")
    if uri.startswith(known):
        return uri
    raise InputError(
        "The tracking URI must be a server (http://, https://) or a database (sqlite:///FILE, "
        f"postgresql://), but got {redact(uri)!r}. Give --tracking-uri or MLFLOW_TRACKING_URI such a "
        "URI, or leave both out for sqlite:///mlflow.db here."
    )


def artifact_root(uri: str) -> str | None:
    """Folder for artifacts as a file URI, or None where a server decides.

    It lies beside the SQLite file; for other databases in the working folder. MLflow would write to
    ``./mlruns`` otherwise.

    >>> artifact_root("sqlite:////data/mlflow.db")
    'file:///data/mlartifacts'
    >>> artifact_root("http://localhost:5000") is None
    True
    """
    if is_server(uri) or uri.startswith("databricks"):
        return None
    folder = Path.cwd()
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute().parent
    return (folder / "mlartifacts").as_uri()
