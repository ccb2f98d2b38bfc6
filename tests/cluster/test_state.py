"""What a cluster's file says of its processes, and when it says nothing any more. No service is started."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from aiq_search.cli.main import app
from aiq_search.cluster import local
from aiq_search.cluster.local import ClusterState, LocalCluster
from aiq_search.cluster.processes import Process, this_boot
from aiq_search.errors import AiqError, InputError
from tests.search.simulation import new_study

CHILD = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
)


@pytest.fixture
def cluster(tmp_path):
    """A cluster whose only service has been killed and has left a child behind."""
    made = LocalCluster(tmp_path)
    made.folder.mkdir()
    process = Process.start([sys.executable, "-c", CHILD], os.environ, tmp_path, tmp_path / "log")
    while process.alive:
        time.sleep(0.02)
    ports = {"postgres": 1, "mlflow": 2, "ray": 3, "dashboard": 4}
    scratch = tmp_path / "scratch" / "ray"
    made._save(ClusterState(0, ports, tmp_path / "data", scratch, {"mlflow": process}))
    yield made
    process.end(signal.SIGKILL)


def test_a_state_is_read_as_it_was_written(cluster):
    assert cluster.state.boot == this_boot()
    assert list(cluster.state.processes) == ["mlflow"]


def test_after_a_reboot_no_process_of_it_is_ours(cluster):
    process = cluster.state.processes["mlflow"]
    cluster._save(replace(cluster.state, boot="another 1"))
    assert cluster.state.processes == {}
    assert cluster.down() == []
    assert len(process.family()) == 1  # what has the number now is left alone


def test_up_ends_what_dead_services_left_behind_before_it_begins_anew(cluster, monkeypatch):
    process = cluster.state.processes["mlflow"]
    assert len(process.family()) == 1

    def stop_here(*_):
        raise AiqError("far enough")

    monkeypatch.setattr(tempfile, "tempdir", str(cluster.home))
    monkeypatch.setattr(local, "_check_installed", lambda: None)
    monkeypatch.setattr(LocalCluster, "_start", stop_here)
    said = []
    with pytest.raises(AiqError, match="far enough"):
        cluster.up(report=said.append)
    assert said == ["mlflow: has stopped by itself", "postgres: starting"]
    assert not [each for each in process.family() if each.alive]


@pytest.fixture
def running(cluster, monkeypatch):
    """A study that a driver holds, in the cluster's AIQ_HOME."""
    monkeypatch.setenv("AIQ_HOME", str(cluster.home))
    study = new_study(cluster.home, "busy-study")
    with study.held():
        yield study


def down(*options, answer=""):
    return CliRunner().invoke(app, ["cluster", "down", *options], input=answer)


def test_down_is_refused_without_a_terminal_while_a_study_is_running(cluster, running):
    done = down()
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert "busy-study would be interrupted; --yes" in str(done.exception)
    assert cluster.state is not None


def test_down_asks_while_a_study_is_running(cluster, running):
    refused = down(answer="n\n")
    assert refused.exit_code == 1
    assert cluster.state is not None
    assert "1 study is running: busy-study." in refused.output
    assert "Nothing was stopped." in refused.output
    assert down(answer="y\n").exit_code == 0
    assert cluster.state is None


def test_down_with_yes_does_not_ask(cluster, running):
    assert down("--yes").exit_code == 0
    assert cluster.state is None
    assert "Nothing was running." in down("--yes").output


def test_down_does_not_ask_without_a_running_study(cluster, monkeypatch):
    monkeypatch.setenv("AIQ_HOME", str(cluster.home))
    new_study(cluster.home, "over")
    assert down().exit_code == 0
    assert cluster.state is None
