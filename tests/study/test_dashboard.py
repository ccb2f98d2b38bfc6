"""Optuna's own tools on a study's storage: the dashboard shows it, and ``optuna.load_study`` reads it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from aiq_search.study import Phase, Study
from tests.search.simulation import DATASET, finish, simulated_space
from tests.support.waiting import wait_for

DASHBOARD = Path(sys.executable).with_name("optuna-dashboard")

ONE = {
    "objective": {"constraints": ["accuracy >= 0.6"]},
    "parameters": {
        "model.hidden1": {"type": "int", "low": 2, "high": 64, "powers_of": 2},
        "model.hidden2": {"type": "derived", "value": "2 * model.hidden1"},
    },
    "search": {"trials": 12, "pruner": "asha"},
}
SEVERAL = {
    "objective": {
        "maximize": ["accuracy", "efficiency"],
        "minimize": "parameters",
        "constraints": ["aiq >= 0.5"],
    },
    "search": {"trials": 8, "pruner": "pareto"},
}


@contextmanager
def dashboard(storage):
    """The real dashboard; gives what answers a path of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [DASHBOARD, "--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref", storage]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=30) as answer:
            return json.load(answer)

    def answers():
        assert running.poll() is None
        try:
            return bool(ask("meta"))
        except OSError:
            return False

    try:
        wait_for(answers, 600, every=0.5)
        yield ask
    finally:
        running.terminate()
        running.wait(30)


@pytest.fixture(params=[("journal", ONE), ("database", SEVERAL)], ids=["journal", "database"])
def stored(request, tmp_path):
    """A finished study, and what names its storage to Optuna's tools."""
    kind, edits = request.param
    url = None if kind == "journal" else f"sqlite:///{tmp_path / 'studies.db'}"
    study = Study.create(tmp_path, simulated_space(**edits), DATASET, "finished", trials_url=url)
    finish(study)
    return study.refreshed(), url or str(study.journal)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_dashboard_shows_the_study_and_its_trials(stored):
    if not DASHBOARD.exists():
        pytest.skip("pip install optuna-dashboard")
    study, storage = stored
    before = study.journal.read_bytes() if study.journal.exists() else b""
    with dashboard(storage) as ask:
        summaries = {each["study_name"]: each for each in ask("studies")["study_summaries"]}
        explored = ask(f"studies/{summaries['finished']['study_id']}")
    directions = [direction for _, direction in study.space.objective.directions]
    assert summaries.keys() == {"finished", "finished.confirm", "finished.reference"}
    assert explored["directions"] == directions
    records = study.records(Phase.EXPLORE)
    assert [(t["number"], t["state"].upper()) for t in explored["trials"]] == [
        (record.key.number, str(record.state)) for record in records
    ]
    for trial, record in zip(explored["trials"], records, strict=True):
        if str(record.state) == "COMPLETE":
            assert trial["values"] == [record.scored[name] for name, _ in study.space.objective.directions]
        if len(directions) == 1 and record.copied_from is None:
            curve = [point["value"] for point in trial["intermediate_values"]]
            assert curve == record.history["aiq"]
    names = {each["name"] for each in explored["union_search_space"]}
    searched = {name: p for name, p in study.space.parameters.items() if p.type != "derived"}
    assert names == {parameter.optuna_name(name) for name, parameter in searched.items()}
    assert (study.journal.read_bytes() if study.journal.exists() else b"") == before  # it only looked


def test_optuna_reads_values_constraints_and_curves(stored):
    study, storage = stored
    opened = storage if "://" in storage else JournalStorage(JournalFileBackend(storage))
    loaded = optuna.load_study(study_name=study.id, storage=opened)
    records = {record.key.number: record for record in study.records(Phase.EXPLORE)}
    assert len(loaded.trials) == len(records)
    for trial in loaded.trials:
        record = records[trial.number]
        for constraint in study.space.objective.number_constraints:
            assert trial.constraints[str(constraint)] == constraint.violation(record.scored)
    best = {trial.number for trial in loaded.best_trials}
    assert best
    assert all(records[number].feasible for number in best)
