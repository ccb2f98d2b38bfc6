"""What is used of MLflow beyond its documentation is there, and means what it is taken for."""

from __future__ import annotations

import inspect
from pathlib import Path

from mlflow.entities import Metric, ViewType
from mlflow.tracking import MlflowClient

from aiq_search.tracking import Outbox, mlflow_internals
from aiq_search.tracking.mlflow_internals import RunRow, last_metrics, runs_in_database
from aiq_search.tracking.removal import runs_of
from tests.tracking.conftest import Server
from tests.tracking.conftest import runs_of as whole_runs_of
from tests.tracking.delivering import deliver
from tests.tracking.simulated import STUDY, whole_study

ADAPT = "adapt aiq_search/tracking/mlflow_internals.py to this MLflow"


def test_the_last_metrics_of_a_run_have_their_steps(store: str) -> None:
    client = MlflowClient(store)
    run = client.create_run(client.create_experiment("e"))
    client.log_batch(run.info.run_id, [Metric("aiq", 0.5, 1000, 1), Metric("aiq", 0.25, 2000, 7)])
    [metric] = last_metrics(client.get_run(run.info.run_id))
    assert (metric.key, metric.step, metric.value) == ("aiq", 7, 0.25), ADAPT


def test_the_runs_in_a_database_are_those_that_a_search_finds(outbox: Outbox, store: str) -> None:
    outbox.put(whole_study(4))
    deliver(outbox, store)
    client = MlflowClient(store)
    [experiment] = [e for e in client.search_experiments() if e.name == "lenet-5-digits"]
    other = client.create_experiment("other")
    client.create_run(other, tags={"aiq.study": STUDY, "aiq.trial_key": "elsewhere"})
    client.create_run(experiment.experiment_id, tags={"aiq.study": "another", "aiq.trial_key": "another"})
    stranger = client.create_run(experiment.experiment_id, tags={"aiq.study": STUDY})
    gone = client.create_run(experiment.experiment_id, tags={"aiq.study": STUDY, "aiq.trial_key": "gone"})
    client.delete_run(gone.info.run_id)
    rows = runs_in_database(client, experiment.experiment_id, ("aiq.study", STUDY), "aiq.trial_key")
    assert rows is not None, ADAPT
    where = f"tags.`aiq.study` = '{STUDY}'"
    found = client.search_runs([experiment.experiment_id], where, ViewType.ALL)
    expected = {RunRow.of(run, "aiq.trial_key") for run in found}
    assert set(rows) == expected
    assert len(rows) == len(expected)
    begun = stranger.info.start_time
    assert RunRow(stranger.info.run_id, "RUNNING", None, True, begun) in expected
    assert [row.tag for row in rows if not row.active] == ["gone"]


def test_a_server_s_runs_are_searched_for(outbox: Outbox, server: Server) -> None:
    outbox.put(whole_study(2))
    deliver(outbox, server.url)
    client = MlflowClient(server.url)
    assert runs_in_database(client, "1", ("aiq.study", STUDY), "aiq.trial_key") is None
    runs = runs_of(STUDY, "lenet-5-digits", server.url)
    assert {(r.owner, r.run_id) for r in runs} == {
        (owner, run.info.run_id) for owner, run in whole_runs_of(server.url).items()
    }


def test_a_model_s_requirements_can_be_left_unchecked() -> None:
    from mlflow.utils import environment, requirements_utils

    modules = (environment, mlflow_internals._pyfunc(), requirements_utils)
    assert all(hasattr(module, mlflow_internals._CHECK) for module in modules), ADAPT
    before = [getattr(module, mlflow_internals._CHECK) for module in modules]
    with mlflow_internals.requirements_unchecked():
        assert all(getattr(module, mlflow_internals._CHECK) is not before[0] for module in modules)
    assert [getattr(module, mlflow_internals._CHECK) for module in modules] == before


def test_no_other_module_uses_what_is_private_of_mlflow() -> None:
    import aiq_search.tracking

    private = ("_tracking_client", "_metric_objs", "ManagedSessionMaker", "dbmodels")
    for path in Path(inspect.getfile(aiq_search.tracking)).parent.rglob("*.py"):
        if path.name != "mlflow_internals.py":
            assert not any(name in path.read_text(encoding="utf-8") for name in private), path
