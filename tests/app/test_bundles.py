"""From a study on disk, or a registered model, to a bundle. The study is written by hand: no search runs."""

import json
from dataclasses import asdict

import optuna
import pytest
from typer.testing import CliRunner

from aiq_search.app.bundles import export_registered, export_study, take_home, write_best
from aiq_search.cli.main import app
from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import AiqError, InputError, NothingFeasibleError, StudyError
from aiq_search.export import BundleError, load_bundle
from aiq_search.models import model_size
from aiq_search.space import SearchSpace
from aiq_search.study import Phase, Study
from aiq_search.study.record import BEGIN, END, config_hash
from aiq_search.study.study import FINALISTS
from aiq_search.training import TrainingOptions, TrainingRun, save_weights

SPACE = {
    "schema_version": 1,
    "name": "tiny",
    "model": {"name": "mlp"},
    "dataset": {"name": "digits", "validation": 360, "test": 360},
    "parameters": {"model.hidden1": {"type": "int", "low": 4, "high": 8}},
    "objective": {"maximize": "aiq", "constraints": ["accuracy >= 0.5"]},
    "training": {"epochs": 2, "learning_rate": 0.05, "batch_size": 50, "engine": "torch"},
    "confirm": {"finalists": 1, "seeds": 2},
}


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(**SPACE["dataset"]))


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The champion's bundle."""
    _, study = trained
    return export_study(study, tmp_path_factory.mktemp("exported") / "champion").directory


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A study with one exploring trial and four confirmations."""
    home = tmp_path_factory.mktemp("home")
    seeds = [(Phase.EXPLORE, 0, 1), *((Phase.CONFIRM, i, 10 + i) for i in range(4))]
    study = written_study(home, digits, seeds)
    study.load(Phase.CONFIRM).set_user_attr(FINALISTS, [0])
    return home, study


def written_study(home, digits, seeds, engine="torch", off=0.0):
    """A study whose trials are truly trained; their aIQ is recorded with an error."""
    training = {**SPACE["training"], "engine": engine}
    study = Study.create(
        home, SearchSpace.model_validate({**SPACE, "training": training}), digits.description()
    )
    params = {"model.hidden1": 6}
    for phase, number, seed in seeds:
        run = TrainingRun(study.architecture(params), digits, TrainingOptions(**training), seed=seed)
        while not run.finished:
            run.run_epoch()
        metrics = {**run.best.metrics(), **asdict(model_size(run.model, digits.input_shape))}
        metrics["aiq"] += off
        begin = {"params": params, "seed": seed, "config_hash": config_hash(params)}
        if phase is Phase.CONFIRM:
            test = run.evaluate_best("test")
            metrics |= {f"test/{name}": getattr(test, name) for name in ("aiq", "accuracy", "efficiency")}
            begin |= {"origin": 0, "replicate": number}
        end = {
            "value": metrics["aiq"],
            "epoch": run.best.epoch,
            "epochs": run.epoch,
            "metrics": metrics,
            "engine": run.engine.name,
            "feasible": True,
        }
        study.load(phase).add_trial(
            optuna.trial.create_trial(value=metrics["aiq"], user_attrs={BEGIN: begin, END: end})
        )
        record = study.record(phase, number)
        save_weights(study.weights_path(record.key), run.best_weights, {})
    return study


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_the_compiled_engines_numbers_may_differ_by_rounding(digits, tmp_path, engine):
    slightly = written_study(tmp_path / "slightly", digits, [(Phase.EXPLORE, 0, 1)], engine, off=0.005)
    if engine == "torch":
        with pytest.raises(BundleError, match=r"difference of 1\.0e-04 is allowed"):
            export_study(slightly, tmp_path / "champion", trial=0, formats=["safetensors"])
        return
    export = export_study(slightly, tmp_path / "champion", trial=0, formats=["safetensors"])
    note = next(check.detail for check in export.verification.checks if check.name == "search")
    assert "within 5.0e-03 (measured by the compiled engine; 2.6e-02 is allowed for rounding)" in note
    metrics = load_bundle(tmp_path / "champion").metrics
    # The bundle has torch's numbers.
    assert metrics.splits["validation"].aiq == pytest.approx(
        slightly.record(Phase.EXPLORE, 0).value - 0.005, abs=1e-3
    )
    assert metrics.source["engine"] == "compiled"
    wrong = written_study(tmp_path / "wrong", digits, [(Phase.EXPLORE, 0, 1)], engine, off=0.05)
    with pytest.raises(BundleError, match=r"difference of 2\.6e-02 is allowed"):
        export_study(wrong, tmp_path / "wrong-champion", trial=0, formats=["safetensors"])


def test_the_champions_best_seed_is_exported_with_the_spread_of_all(trained, tmp_path):
    home, study = trained
    result = take_home("tiny", tmp_path / "champion", home=home)
    champion = study.champion()
    assert result.record == champion.record
    assert result.record.key.phase is Phase.CONFIRM
    metrics = load_bundle(tmp_path / "champion").metrics
    assert metrics.splits["validation"].aiq == champion.record.metrics["aiq"]
    assert metrics.splits["test"].accuracy == champion.record.metrics["test/accuracy"]
    assert metrics.configuration["validation"]["aiq"].mean == champion.validation["aiq"].mean
    assert metrics.configuration["test"]["aiq"].n == 2
    assert [seed.name for seed in metrics.seeds if seed.exported] == [champion.record.name]
    assert len(metrics.seeds) == 4
    assert metrics.source["parameters"] == {"model.hidden1": 6}


def test_any_trial_whose_weights_were_kept_can_be_exported(trained, tmp_path):
    _, study = trained
    result = export_study(study, tmp_path / "champion", trial=0, formats=["safetensors"])
    assert result.record.name == "trial-0000"


def test_the_best_so_far_is_bundled_without_graphs_and_again_in_its_place(trained):
    _, study = trained
    assert [write_best(study.directory) for _ in range(2)] == [study.directory / "best" / "bundle"] * 2
    bundle = load_bundle(study.directory / "best" / "bundle")
    assert bundle.metrics.source["trial"] == study.champion().record.name
    assert {path.suffix for path in bundle.directory.iterdir()}.isdisjoint({".pt2", ".onnx"})


def test_a_trial_that_is_not_there_is_said(trained, tmp_path):
    _, study = trained
    with pytest.raises(StudyError, match="has no trial 7"):
        export_study(study, tmp_path / "champion", trial=7)


def test_weights_that_were_not_kept_are_said(trained, tmp_path):
    _, study = trained
    path = study.weights_path(study.record(Phase.EXPLORE, 0).key)
    path.rename(path.with_suffix(".away"))
    try:
        with pytest.raises(StudyError, match=r"weights of trial-0000 .* were not kept"):
            export_study(study, tmp_path / "champion", trial=0)
    finally:
        path.with_suffix(".away").rename(path)


def test_weights_of_another_trial_are_found_out(trained, tmp_path):
    _, study = trained
    champion = study.weights_path(study.champion().record.key)
    original = champion.read_bytes()
    champion.write_bytes(study.weights_path(study.record(Phase.EXPLORE, 0).key).read_bytes())
    try:
        with pytest.raises(BundleError, match="the search reported"):
            export_study(study, tmp_path / "champion")
    finally:
        champion.write_bytes(original)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_exported_where_nothing_is_feasible(trained, digits, tmp_path):
    empty = Study.create(tmp_path / "home", SearchSpace.model_validate(SPACE), digits.description())
    with pytest.raises(NothingFeasibleError):
        export_study(empty, tmp_path / "champion")


def test_the_commands_do_what_they_say(trained, tmp_path, monkeypatch):
    home, _ = trained
    monkeypatch.setenv("AIQ_HOME", str(home))
    runner = CliRunner()
    output = tmp_path / "champion"
    done = runner.invoke(app, ["export", "tiny", "--output", str(output), "--format", "pt2"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{output}\n"

    verified = runner.invoke(app, ["verify", str(output), "--format", "json"])
    assert all(check["passed"] for check in json.loads(verified.stdout)["checks"])

    example = str(output / "example_input.npz")
    predicted = json.loads(runner.invoke(app, ["predict", str(output), example, "--format", "json"]).stdout)
    assert len(predicted) == 8
    assert sum(predicted[0]["probabilities"].values()) == pytest.approx(1)
    table = runner.invoke(app, ["predict", str(output), example])
    assert "probability" in table.stdout
    rows = runner.invoke(app, ["predict", str(output), example, "--format", "csv"]).stdout.splitlines()
    assert rows[0].startswith("input,label,probability,p(0)")
    assert len(rows) == 9

    again = runner.invoke(app, ["export", "tiny", "--output", str(output)])
    assert isinstance(again.exception, InputError)


@pytest.fixture
def registry(exported, tmp_path):
    """An MLflow store in which a champion is registered, its bundle with the run above."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("tiny", artifact_location=(tmp_path / "artifacts").as_uri())
    parent = client.create_run(experiment)
    child = client.create_run(experiment, tags={"mlflow.parentRunId": parent.info.run_id})
    client.log_artifacts(parent.info.run_id, str(exported), "bundle")
    client.create_registered_model("aiq-tiny")
    client.create_model_version("aiq-tiny", source="runs:/anywhere", run_id=child.info.run_id)
    client.set_registered_model_alias("aiq-tiny", "champion", "1")
    return uri


@pytest.mark.parametrize("name", ["models:/aiq-tiny@champion", "models:/aiq-tiny/1"])
def test_a_registered_model_is_taken_home_and_verified(registry, exported, tmp_path, name):
    verification = take_home(name, tmp_path / "champion", tracking_uri=registry).verification
    assert all(check.passed for check in verification.checks)
    assert {p.name: p.read_bytes() for p in (tmp_path / "champion").iterdir()} == {
        p.name: p.read_bytes() for p in exported.iterdir()
    }


def test_a_damaged_bundle_is_not_taken_home(registry, tmp_path):
    (weights,) = tmp_path.glob("artifacts/**/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="damaged"):
        export_registered("models:/aiq-tiny@champion", tmp_path / "champion", tracking_uri=registry)
    assert not (tmp_path / "champion").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("models:/aiq-tiny@nobody", "alias nobody"),
        ("models:/aiq-nothing@champion", "aiq-nothing"),
        ("models:/aiq-tiny", "expected models:/name@alias"),
    ],
)
def test_a_registered_model_that_is_not_there_is_said(registry, tmp_path, name, reason):
    with pytest.raises(AiqError, match=reason):
        export_registered(name, tmp_path / "champion", tracking_uri=registry)
