"""Stores and credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiq_search.errors import InputError
from aiq_search.redaction import redact
from aiq_search.tracking.uri import artifact_root, check_tracking_uri, default_tracking_uri


def test_the_default_store_is_a_file_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert artifact_root(default_tracking_uri()) == (tmp_path / "mlartifacts").as_uri()


def test_the_environment_names_another_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert default_tracking_uri() == "http://localhost:5000"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns", "ftp://host"])
def test_a_folder_is_no_store(uri: str) -> None:
    with pytest.raises(InputError, match="must be a server"):
        check_tracking_uri(uri)


def test_a_refused_uri_is_shown_without_its_password() -> None:
    with pytest.raises(InputError) as caught:
        check_tracking_uri("ftp://ada:lovelace@host/x")
    assert "lovelace" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://ada:love%40lace@db:5432/mlflow", "postgresql://***@db:5432/mlflow"),
        ("https://token@host/path", "https://***@host/path"),
        ("https://a:p@ss@host/path", "https://***@host/path"),
        ("postgresql://db/x?user=ada&password=lovelace", "postgresql://db/x?user=ada&password=***"),
        ("sqlite:////home/ada/mlflow.db", "sqlite:////home/ada/mlflow.db"),
        ("write to ada@example.org", "write to ada@example.org"),
    ],
)
def test_credentials_are_not_shown(given: str, shown: str) -> None:
    assert redact(given) == shown
