"""A finished study is not trained again, but what MLflow lacks of it is delivered."""

import pytest

from aiq_search.app.result import failure_of
from aiq_search.app.run import resume_search
from aiq_search.errors import NothingFeasibleError
from aiq_search.tracking.removal import runs_of
from tests.search.simulation import finish, new_study


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine may take longer to set up a database than a user would wait."""
    monkeypatch.setattr("aiq_search.app.ending._DELIVERY_SECONDS", 120)


def finished(tmp_path, **edits):
    """A study that ended as if its process had been killed before a word of it reached MLflow."""
    study = new_study(tmp_path, search={"trials": 3}, confirm={"finalists": 0}, **edits)
    finish(study)
    study.mark_ended("finished")
    return study


@pytest.mark.slow
def test_what_mlflow_lacks_of_a_finished_study_is_delivered(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    study = finished(tmp_path)
    result = resume_search(study.id, tracking_uri=uri, home=tmp_path)
    assert (result.reason, result.notes[0]) == ("finished", "already finished; nothing left to train.")
    assert not result.undelivered
    runs = {run.owner: run.status for run in runs_of(study.id, "simulated", uri)}
    assert len(runs) == 4
    assert runs[study.id] == "FINISHED"


@pytest.mark.slow
def test_what_mlflow_lacks_of_a_study_with_nothing_feasible_is_delivered(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    study = finished(tmp_path, objective={"constraints": ["parameters <= 1"]})
    result = resume_search(study.id, tracking_uri=uri, home=tmp_path)
    assert result.champion is None
    assert isinstance(failure_of(result), NothingFeasibleError)
    assert not result.undelivered
    runs = {run.owner: run.status for run in runs_of(study.id, "simulated", uri)}
    assert len(runs) == 4
    assert runs[study.id] == "FINISHED"
