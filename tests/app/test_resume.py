"""A finished study is not trained again, but what MLflow lacks of it is delivered."""

import pytest

from aiq_search.app.search import resume_search
from aiq_search.tracking.removal import runs_of
from tests.search.simulation import finish, new_study


@pytest.mark.slow
def test_what_mlflow_lacks_of_a_finished_study_is_delivered(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    study = new_study(tmp_path, search={"trials": 3}, confirm={"finalists": 0})
    finish(study)
    study.document["ended"] = "finished"
    study.save()  # as if the process had been killed before a word of it reached MLflow
    result = resume_search(study.id, tracking_uri=uri, home=tmp_path)
    assert (result.reason, result.notes[0]) == ("finished", "finished already: nothing is left to train.")
    assert not result.undelivered
    runs = {run.owner: run.status for run in runs_of(study.id, "simulated", uri)}
    assert len(runs) == 4
    assert runs[study.id] == "FINISHED"
