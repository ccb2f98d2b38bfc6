"""Removing a study: folder, trials and runs go together, after asking."""

from __future__ import annotations

import time

import pytest
from typer.testing import CliRunner

from aiq_search.app.edit import delete_study
from aiq_search.cli.main import app
from aiq_search.errors import AiqError, StudyError
from aiq_search.study import Study
from aiq_search.tracking import MlflowListener, reconcile
from aiq_search.tracking.removal import runs_of
from tests.search.simulation import finish, new_study


@pytest.fixture
def uri(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    return uri


def tracked(home, uri, name="study"):
    study = new_study(home, name, search={"trials": 2}, confirm={"finalists": 0})
    finish(study)
    listener = MlflowListener(study.directory, uri)
    reconcile(study, listener)
    assert not listener.close(60)
    return study


@pytest.mark.slow
def test_a_study_goes_with_its_runs_and_no_others(tmp_path, uri):
    study, other = tracked(tmp_path, uri), tracked(tmp_path, uri, "other")
    assert len(runs_of(study.id, "simulated", uri)) == 3
    done = delete_study(study.id, home=tmp_path)
    assert (done.runs, done.trials) == (3, 2)
    assert not study.directory.exists()
    assert runs_of(study.id, "simulated", uri) == []
    assert len(runs_of(other.id, "simulated", uri)) == 3
    assert Study.open(tmp_path, other.id).records()


def test_with_mlflow_away_nothing_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    study = new_study(tmp_path)
    with pytest.raises(AiqError, match="Nothing was removed: start MLflow"):
        delete_study(study.id, home=tmp_path)
    assert study.directory.exists()
    assert delete_study(study.id, keep_runs=True, home=tmp_path).runs == 0
    assert not study.directory.exists()


def test_trials_in_a_database_go_too(tmp_path, uri):
    from aiq_search.study.storage import open_storage

    url = f"sqlite:///{tmp_path / 'trials.db'}"
    from tests.search.simulation import DATASET, simulated_space

    study = Study.create(tmp_path, simulated_space(), DATASET, "stored", trials_url=url)
    delete_study(study.id, keep_runs=True, home=tmp_path)
    assert open_storage(url).get_all_studies() == []


def test_a_study_that_a_driver_holds_is_refused(tmp_path, uri):
    study = new_study(tmp_path)
    with study.held(), pytest.raises(StudyError, match="is being run by another driver"):
        delete_study(study.id, home=tmp_path)
    assert study.directory.exists()


def test_it_is_asked_first_and_no_means_no(tmp_path, uri):
    study = new_study(tmp_path)
    result = CliRunner().invoke(app, ["delete", study.id], input="n\n")
    assert result.exit_code == 1
    assert "This removes study study: 0 trials" in result.stderr.replace("\n", " ")
    assert study.directory.exists()


def test_with_nobody_to_answer_nothing_is_removed(tmp_path, uri):
    study = new_study(tmp_path)
    result = CliRunner().invoke(app, ["delete", study.id], input="")
    assert "no confirmation, nothing was removed" in str(result.exception)
    assert study.directory.exists()


def test_yes_does_not_ask(tmp_path, uri):
    study = new_study(tmp_path)
    begun = time.monotonic()
    result = CliRunner().invoke(app, ["delete", study.id, "--yes", "--keep-runs"])
    assert result.exit_code == 0
    assert not study.directory.exists()
    assert time.monotonic() - begun < 30


def test_what_goes_is_counted_before_anything_does(tmp_path, uri):
    study = new_study(tmp_path)
    finish(study)
    plan = delete_study(study.id, agree=lambda plan: False, home=tmp_path)
    assert not plan.done
    assert plan.trials == len(study.records())
    assert plan.bytes > 1000
    assert plan.tracking_uri == uri
