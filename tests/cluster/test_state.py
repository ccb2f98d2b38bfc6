"""What a cluster's file says of its processes, and when it says nothing any more. No service is started."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from dataclasses import replace

import pytest

from aiq_search.cluster import local
from aiq_search.cluster.local import ClusterState, LocalCluster
from aiq_search.cluster.processes import Process, this_boot
from aiq_search.errors import AiqError

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
