"""Latency and bytes of activations in one real search: study, `best`, MLflow, report and card."""

import json

import pytest

from aiq_search.app.bundles import take_home
from aiq_search.app.look import best_of
from aiq_search.app.run import run_search
from tests.support.command_line import run_aiq

SPACE = {
    "schema_version": 1,
    "name": "fast",
    "model": {"name": "mlp"},
    "dataset": {"name": "digits"},
    "parameters": {"model.hidden1": {"type": "int", "low": 8, "high": 9}},
    "objective": {"minimize": "latency_ms", "constraints": ["accuracy >= 0.1", "activation_bytes <= 1e4"]},
    "search": {"trials": 2, "sampler": "grid"},
    "training": {"epochs": 2, "learning_rate": 0.1, "batch_size": 50, "engine": "torch"},
    "confirm": {"finalists": 1, "seeds": 2, "reference": False, "require_better_than_chance": False},
}
COSTS = {"activation_bytes", "latency_ms", "latency_ms_iqr"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("AIQ_HOME", str(folder / ".aiq"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


@pytest.fixture(scope="module")
def searched(folder):
    return run_search(SPACE, study_id="fast", runner="in_process")


@pytest.mark.slow
def test_every_training_measures_its_own(searched):
    assert len(searched.records) == 2 + 2 + 2
    assert all(record.metrics.keys() >= COSTS for record in searched.records)
    hidden = searched.champion.params["model.hidden1"]
    champion = [r for r in searched.records if r.params["model.hidden1"] == hidden]
    assert {r.metrics["activation_bytes"] for r in champion} == {4 * hidden}
    assert len({r.metrics["latency_ms"] for r in champion}) > 1


@pytest.mark.slow
def test_best_shows_the_mean_over_the_fresh_seeds(searched, folder):
    choice = best_of("fast")
    spread = choice.document()["metrics"]["validation"]["latency_ms"]
    assert spread["n"] == 2
    environment = {"AIQ_HOME": str(folder / ".aiq"), "COLUMNS": "200"}
    shown = run_aiq("best", "fast", folder=folder, environment=environment).out
    assert f"{spread['mean']:.4g} ± {spread['sd']:.4g}" in shown
    listed = run_aiq("trials", "fast", folder=folder, environment=environment).out
    assert "latency_ms" in listed.splitlines()[1]


@pytest.mark.slow
def test_mlflow_has_them_once_for_a_training_and_as_means_for_the_study(searched, folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("fast").experiment_id])
    trials = [run for run in runs if run.data.tags["aiq.trial_key"] != "fast"]
    assert len(trials) == 6
    for run in trials:
        (point,) = client.get_metric_history(run.info.run_id, "latency_ms")
        assert (point.step, point.value > 0) == (0, True)
        assert run.data.metrics.keys() >= COSTS
    (study,) = [run for run in runs if run not in trials]
    mean = searched.champion.validation["latency_ms"].mean
    assert study.data.metrics["latency_ms"] == pytest.approx(mean, abs=1e-6)
    assert study.data.metrics["activation_bytes"] == searched.champion.validation["activation_bytes"].mean


@pytest.mark.slow
def test_the_card_and_the_report_have_them(searched, folder):
    bundle = take_home("fast", folder / "champion", formats=["safetensors"]).directory
    recorded = json.loads((bundle / "metrics.json").read_text())
    spread = recorded["configuration"]["validation"]["latency_ms"]
    card = (bundle / "MODEL_CARD.md").read_text()
    taken = f"{spread['mean']:.4g} ± {spread['sd']:.4g} (n = 2)"
    assert f"| milliseconds of a sample, in the search | | | {taken} | |" in card
    activations = int(recorded["configuration"]["validation"]["activation_bytes"]["mean"])
    assert f"| activations at once, bytes | | | {activations} (n = 2) | |" in card
    assert activations == recorded["device"]["activations"]["float32"]
    environment = {"AIQ_HOME": str(folder / ".aiq")}
    assert run_aiq("report", "fast", "-o", "r.html", folder=folder, environment=environment).code == 0
    assert "milliseconds of a sample" in (folder / "r.html").read_text()
