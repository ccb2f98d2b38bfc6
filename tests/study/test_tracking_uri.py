"""Later commands find a study's runs where they are, whatever folder or environment they are given in."""

import pytest

from aiq_search.errors import InputError
from tests.search.simulation import new_study

WITH_PASSWORD = "https://ada:lovelace@mlflow.example.org"  # noqa: S105 - of nobody


@pytest.fixture
def study(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "AIQ_JOB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return new_study(tmp_path / "home")


def test_a_file_is_remembered_by_where_it_is(study, tmp_path, monkeypatch):
    study.reopen("sqlite:///mlflow.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert study.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_what_the_user_names_goes_first(study):
    study.reopen("http://one")
    assert study.tracking_uri("http://two") == "http://two"


def test_a_study_that_has_no_store_yet_takes_that_of_the_environment(study, tmp_path):
    assert study.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_credentials_come_from_the_environment_and_are_never_kept(study, monkeypatch):
    study.reopen(WITH_PASSWORD)
    assert "lovelace" not in str(study.document)
    with pytest.raises(
        InputError, match=r"at https://\*\*\*@mlflow.example.org, whose credentials are not kept"
    ):
        study.tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", WITH_PASSWORD)
    assert study.tracking_uri() == WITH_PASSWORD


def test_a_job_writes_to_the_server_of_its_cluster(study, monkeypatch):
    study.reopen("http://127.0.0.1:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    monkeypatch.setenv("AIQ_JOB", study.id)
    assert study.tracking_uri() == "http://127.0.0.1:5001"


def test_a_study_that_cannot_be_read_does_not_hide_the_others(study, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from aiq_search.cli.main import app

    other = new_study(tmp_path / "home", "other")
    other.journal.unlink()
    monkeypatch.setenv("AIQ_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, ["studies", "--format", "csv"])
    assert result.exit_code == 0
    assert {line.split(",")[0]: "damaged" in line for line in result.stdout.splitlines()[1:]} == {
        "study": False,
        "other": True,
    }
