"""The whole thing on real Ray and real MLflow: searched once, looked at by many tests."""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import aiq_search.datasets
from aiq_search import run_search
from aiq_search.app.dry_run import dry_run
from aiq_search.app.options import RunOptions
from aiq_search.app.publish import publish_nothing
from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.search import preflight
from aiq_search.study import Phase, Study, TrialEnded, TrialState
from aiq_search.study.document import StudyDocument
from aiq_search.study.time_spent import time_spent
from aiq_search.training import load_weights
from tests.search.simulation import Recorder

pytestmark = pytest.mark.slow

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
SMALL = ["search.trials=10", "training.epochs=6", "confirm.finalists=2", "confirm.seeds=2"]


def broken_model(input_shape, classes, hidden1=4):
    """A user's model: diverges, raises or collapses for some widths."""
    import torch

    from aiq_search.models import mlp

    if hidden1 == 3:
        raise RuntimeError("the user's own mistake")
    model = mlp(input_shape=input_shape, classes=classes, hidden1=hidden1)
    if hidden1 == 5:
        model.append(Poison())
    if hidden1 == 6:
        with torch.no_grad():
            model.hidden1.weight.zero_()
            model.hidden1.bias.fill_(-100.0)
    return model


class Poison(__import__("torch").nn.Module):
    def forward(self, x):
        return x * math.nan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def searched(folder):
    """A small search of digits; its result and what a listener heard."""
    heard = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("AIQ_HOME", str(folder / "home"))
        patch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)  # of an earlier test's Ray
        heard.loads = counted(patch, "load_dataset", aiq_search.datasets, preflight)
        heard.opened = counted(patch, "read", StudyDocument)
        result = run_search(SPACE, overrides=SMALL, study_id="digits-test", listeners=[heard])
    return result, heard


def counted(patch, name, *owners):
    """Have the calls of a function noted, wherever it was imported to."""
    calls, original = [], getattr(owners[0], name)

    def noting(*arguments):
        calls.append(arguments)
        return original(*arguments)

    for owner in owners:
        patch.setattr(owner, name, noting)
    return calls


def test_the_data_are_loaded_once_and_the_study_is_not_looked_up_again(searched):
    _, heard = searched
    assert len(heard.loads) == 1
    assert len(heard.opened) == 1  # by reopen(), which compares the budget with the one before


def mlflow_runs(folder):
    """Tags, status and metrics of every run in the folder's store, by trial key."""
    code = (
        "import json, sys, mlflow\n"
        "c = mlflow.MlflowClient(sys.argv[1])\n"
        "ids = [e.experiment_id for e in c.search_experiments()]\n"
        "runs = c.search_runs(ids, max_results=5000)\n"
        "print(json.dumps([[r.data.tags, r.info.status, r.data.metrics, r.info.run_id] for r in runs]))\n"
    )
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    done = subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_search_ends_with_a_confirmed_champion(searched):
    result, _ = searched
    assert result.reason == "finished"
    assert result.champion.phase is Phase.CONFIRM
    assert result.champion.test["accuracy"].n == 2
    assert result.champion.test["accuracy"].mean > 0.7
    assert result.undelivered.waiting == 0


def test_the_storage_counts_what_happened_and_nothing_runs_on(searched):
    result, heard = searched
    told = Counter((e.key.phase, str(e.state)) for e in heard.of(TrialEnded))
    for phase in Phase:
        states = Counter((phase, t.state.name) for t in result.study.load(phase).get_trials(deepcopy=False))
        assert states == {key: n for key, n in told.items() if key[0] is phase}
    assert {state for _, state in told} == {"COMPLETE", "PRUNED"}
    assert len(result.study.records(Phase.EXPLORE)) == 10


def test_where_the_time_went_adds_up_to_the_searchs_duration(searched):
    study = searched[0].study.refreshed()
    spent = time_spent(study.document, study.records())
    duration = study.document.closed - study.document.created
    assert spent.total == pytest.approx(spent.slots * duration, rel=0.05)
    assert 0 < spent.kept + spent.pruned + spent.confirming < spent.total
    assert all(0 < record.seconds <= record.ended - record.started for record in study.records())


def test_the_dry_run_estimates_the_disk_space_within_a_factor_of_two(searched, folder):
    smallest, largest = dry_run(SPACE, RunOptions(overrides=SMALL)).disk_bytes
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert smallest / 2 < taken < largest * 2
    reports = [path for path in folder.rglob("*.html") if path.stat().st_size > 1_000_000]
    assert sorted(path.name for path in reports) == ["report.html", "report.html"]  # here, and in MLflow
    heavy = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1_000_000]
    assert {path.name for path in heavy} == {"report.html", "mlflow.db"}


def test_the_kept_weights_give_the_recorded_numbers(searched):
    import torch

    from aiq_search.datasets import load_dataset
    from aiq_search.training import TensorSplit, evaluate

    result, _ = searched
    record = result.champion.record
    weights, document = load_weights(result.study.weights_path(record.key))
    model = result.study.architecture(record.params).build()
    model.load_state_dict(weights)
    data = load_dataset(result.study.space.dataset)
    split = TensorSplit.of(data.validation, data.normalization, torch.device("cpu"))
    torch.set_num_threads(1)
    measured = evaluate(model, split, beta=2.0)
    # The engine that measured may round differently: one of 360 samples may be in another state.
    assert record.engine == "compiled"
    assert measured.aiq == pytest.approx(record.metrics["aiq"], abs=0.02)
    assert measured.accuracy == pytest.approx(record.metrics["accuracy"], abs=1.5 / len(split))
    assert document["trial"] == str(record.key)


def test_mlflow_has_every_trial_once_with_its_state(searched, folder):
    result, _ = searched
    runs = mlflow_runs(folder)
    children = [run for run in runs if "mlflow.parentRunId" in run[0]]
    by_key = {tags["aiq.trial_key"]: (status, metrics) for tags, status, metrics, _ in children}
    records = result.records
    assert len(children) == len(by_key) == len(records)
    statuses = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
    for record in records:
        status, metrics = by_key[str(record.key)]
        assert status == statuses[record.state]
        assert metrics["aiq"] == pytest.approx(record.metrics["aiq"])
        assert metrics["parameters"] == record.metrics["parameters"]


def test_the_result_is_a_frame_for_python(searched):
    result, _ = searched
    frame = result.trials
    assert len(frame) == len(result.records)
    assert {"name", "state", "aiq", "accuracy", "efficiency", "parameters", "model.hidden1"} <= set(frame)


def test_nothing_is_left_behind_but_the_study(searched):
    result, _ = searched
    names = {path.name for path in result.study.directory.iterdir()}
    assert {"study.json", "study.journal", "lock", "outbox.sqlite", "checkpoints"} <= names
    assert "tune" not in names
    assert not list(result.study.checkpoints.glob("*unfinished*"))


def test_the_ray_token_is_ours_and_private(searched, folder):
    token = folder / "home" / "ray.token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_one_at_a_time_the_same_seed_gives_the_same_numbers_bit_for_bit(folder, monkeypatch):
    monkeypatch.chdir(folder)
    frames = []
    for name in ("again-1", "again-2"):
        result = run_search(
            SPACE,
            overrides=[*SMALL, "search.concurrency=1", "search.trials=6"],
            study_id=name,
            home=folder / "home",
            publish=publish_nothing,
            runner="in_process",
        )
        frame = result.trials.drop(columns=["seconds"])
        frames.append((frame, result.champion.document() | {"study": ""}))
    assert frames[0][0].equals(frames[1][0])
    assert frames[0][1] == frames[1][1]


def test_a_users_failing_model_fails_its_trials_and_no_others(folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = run_search(
        {
            "schema_version": 1,
            "name": "own",
            "model": {"name": "tests.app.test_run:broken_model"},
            "dataset": {"name": "digits", "validation": 360},
            "parameters": {"model.hidden1": {"type": "categorical", "choices": [4, 3, 5, 6, 8]}},
            "search": {"trials": 5, "sampler": "grid", "pruner": "none"},
            "training": {"epochs": 2, "learning_rate": 0.05},
            "confirm": {"finalists": 0},
        },
        study_id="own",
        home=folder / "home",
        publish=publish_nothing,
        runner="in_process",
        allow_code=["tests"],
    )
    by_width = {record.params["model.hidden1"]: record for record in result.records}
    assert by_width[3].state is TrialState.FAIL
    assert by_width[3].reason == "RuntimeError: the user's own mistake"
    assert "broken_model" in by_width[3].traceback
    assert by_width[5].state is TrialState.FAIL
    assert by_width[5].reason == "diverged: the training loss is nan in epoch 1"
    assert by_width[6].state is TrialState.COMPLETE
    assert by_width[6].collapsed
    assert by_width[6].value == 0
    assert {by_width[4].state, by_width[8].state} == {TrialState.COMPLETE}
    assert result.champion.trial in (by_width[4].key.number, by_width[8].key.number)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "http://127.0.0.1:8265"])
def test_an_address_over_the_network_points_to_submit(tmp_path, address):
    with pytest.raises(InputError, match="aiq submit"):
        run_search(SPACE, address=address, home=tmp_path)
    assert not (tmp_path / "studies").exists()


def test_a_study_that_is_there_is_not_touched(searched, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(StudyError, match="exists already"):
        run_search(SPACE, study_id="digits-test", home=folder / "home")
    assert len(Study.open("digits-test", folder / "home").records()) == len(searched[0].records)


def test_an_unreachable_cluster_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AiqError, match=r"Ray at 127\.0\.0\.1:1 cannot be reached"):
        run_search(SPACE, address="127.0.0.1:1", home=tmp_path)
