"""Two hosts with a Ray node each, and a third that submits, over a network that breaks."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiq_search.app.doctor.study import mismatches
from aiq_search.study import Phase, Study, TrialState
from aiq_search.study.record import ATTEMPTS
from aiq_search.tracking.removal import runs_of
from tests.cluster import stranger
from tests.cluster.hosts import Host, Network, why_not
from tests.support.waiting import wait_for

_REASON = why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_REASON is not None, reason=str(_REASON)),
    pytest.mark.timeout(600),
]

REPOSITORY = Path(__file__).parents[2]
PYTHON = Path(sys.executable)
GCS, DASHBOARD = 6379, 8265

SPACE = """
schema_version: 1
name: hosts
model: {name: "noting:network"}
dataset: {name: digits}
parameters:
  model.width: {type: int, low: 2, high: 64}
search: {trials: 6, sampler: random, pruner: none}
training: {epochs: 5}
confirm: {finalists: 1, seeds: 1}
"""

MODULE = '''
"""A network that notes on which host it is trained, waits until it may, and takes its time."""

import time
from pathlib import Path

import ray
from torch import nn


class Slowly(nn.Flatten):
    def forward(self, inputs):
        time.sleep(0.03 if self.training else 0.0)
        return super().forward(inputs)


def network(input_shape, classes, width):
    if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
        Path(FOLDER, ray.util.get_node_ip_address()).touch()
        while not Path(FOLDER, "go").exists():
            time.sleep(0.1)
    return nn.Sequential(Slowly(), nn.Linear(64, width), nn.ELU(), nn.Linear(width, classes))
'''


@dataclass(frozen=True)
class Cluster:
    """Two hosts with a Ray node each, and one without."""

    head: Host
    node: Host
    away: Host
    folder: Path
    token: str

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    @property
    def alone(self) -> Path:
        """A folder under whose path the node has another one."""
        return self.folder / "alone"

    @property
    def dashboard(self) -> str:
        return f"http://{self.head.address}:{DASHBOARD}"

    def ask_dashboard(self, page: str) -> dict:
        bearer = f"Authorization: Bearer {self.token}"
        said = self.head.run(
            "curl", "-s", "-m", "20", "-H", bearer, f"http://127.0.0.1:{DASHBOARD}{page}"
        ).stdout
        return json.loads(said) if said.startswith("{") else {}

    def alive(self) -> int:
        summary = self.ask_dashboard("/nodes?view=summary").get("data", {}).get("summary", [])
        return sum(node["raylet"].get("state") == "ALIVE" for node in summary)


def environment(folder: Path, token: Path) -> dict[str, str]:
    return {
        "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "AIQ_HOME": str(folder / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # A busy machine starts slowly; a host that is cut off is to be missed soon.
        "RAY_raylet_start_wait_time_s": "240",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "240",
        "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "240",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "5000",
        "RAY_health_check_failure_threshold": "3",
    }


def start_ray(
    host: Host, folder: Path, *arguments: str, hiding: Path | None = None
) -> subprocess.Popen[bytes]:
    host.start(
        *(str(PYTHON), "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *("--object-store-memory=100000000", f"--node-ip-address={host.address}", "--num-cpus=1"),
        *arguments,
        log=folder / f"{host.address}.log",
        hiding=hiding,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hosts")
    for name in ("shared", "alone", "notes", "client"):
        (folder / name).mkdir()
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    scratch = Path(f"/tmp/aiq-hosts-{os.getpid()}")  # noqa: S108 - Ray's sockets want a short path
    with Network("head", "node", "away", environment=environment(folder, token)) as network:
        made = Cluster(*network.hosts.values(), folder=folder, token=token.read_text())
        made.head.environment["AIQ_STORAGE"] = str(made.shared)
        made.away.environment["RAY_API_SERVER_ADDRESS"] = made.dashboard
        start_ray(
            *(made.head, folder, "--head", f"--port={GCS}", f"--temp-dir={scratch}/head"),
            *("--dashboard-host=0.0.0.0", f"--dashboard-port={DASHBOARD}"),
        )
        wait_for(lambda: GCS in made.head.listening())
        # A scratch folder of its own: hosts do not share theirs.
        join = (f"--address={made.head.address}:{GCS}", f"--temp-dir={scratch}/node")
        start_ray(made.node, folder, *join, hiding=made.alone)
        wait_for(lambda: made.alive() == 2)
        yield made
    subprocess.run(["rm", "-rf", str(scratch)], check=False)


def ask(cluster: Cluster, *options: str) -> dict[str, dict[str, str]]:
    """What a stranger on the third host gets out of every port of the other two."""
    ports = [f"{host.address}:{port}" for host in (cluster.head, cluster.node) for port in host.listening()]
    assert f"{cluster.head.address}:{GCS}" in ports
    said = cluster.away.run(str(PYTHON), stranger.__file__, *options, *ports)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.parametrize("options", [[], ["--token", "0" * 64]], ids=["no token", "a wrong token"])
def test_every_port_refuses_a_stranger(cluster, options):
    refused, open_to_all = defaultdict(set), {}
    for port, answers in ask(cluster, *options).items():
        for request, answer in answers.items():
            if answer in ("401", "403", "UNAUTHENTICATED"):
                refused[port].add(request)
        given = {request for request, answer in answers.items() if answer in ("200", "OK")}
        if given:
            open_to_all[port] = given
        # What only tells Prometheus numbers cannot be closed in Ray: SECURITY.md names it.
        numbers = {answer for answer in answers.values()} <= {"numbers", "405"}
        assert refused[port] or numbers, f"{port} answers, and refuses nothing: {answers}"
    # The dashboard's empty page, which then asks for the token.
    assert open_to_all == {f"{cluster.head.address}:{DASHBOARD}": {"GET /"}}
    assert "POST /api/jobs/" in refused[f"{cluster.head.address}:{DASHBOARD}"]


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["no token", "a wrong token"])
def test_a_stranger_cannot_submit(cluster, token):
    wrong = cluster.folder / "wrong"
    wrong.write_text(token or "")
    space = write_space(cluster)
    submit = ("aiq", "submit", space.name)
    said = cluster.away.run("env", f"RAY_AUTH_TOKEN_PATH={wrong}", *submit, folder=space.parent)
    assert said.returncode in (1, 2)
    assert "Traceback" not in said.stderr
    assert "token" in said.stderr


def write_space(cluster: Cluster) -> Path:
    client = cluster.folder / "client"
    (client / "noting.py").write_text(MODULE.replace("FOLDER", repr(str(cluster.folder / "notes"))))
    (client / "space.yaml").write_text(SPACE)
    return client / "space.yaml"


def test_storage_that_is_only_the_drivers_is_found_out(cluster):
    command = ["aiq", "search", str(REPOSITORY / "search_spaces" / "digits.yaml"), "--trials", "2"]
    address = f"{cluster.head.address}:{GCS}"
    said = cluster.head.run(*command, "--address", address, "--storage", str(cluster.alone))
    assert said.returncode == 1, said.stderr
    assert "the driver's file is not there: another file system under the same name" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_search_from_a_third_host_outlives_the_loss_of_one(cluster):
    client, notes = cluster.folder / "client", cluster.folder / "notes"
    write_space(cluster)
    following = cluster.away.start(
        *("sh", "-c", "exec aiq submit space.yaml --study cut --follow"), log=client / "submit.log"
    )

    def until(what: Callable[[], object]) -> None:
        wait_for(lambda: following.poll() is not None or what())
        assert following.poll() is None, (client / "submit.log").read_text()

    both = {cluster.head.address, cluster.node.address}
    until(lambda: {path.name for path in notes.iterdir()} == both)
    (notes / "go").touch()
    until(lambda: finished(cluster.home) >= 2)
    cluster.node.cut_off()

    assert following.wait(300) == 0, (client / "submit.log").read_text()
    study = Study.open("cut", cluster.home)
    records = study.records()
    explored = [record for record in records if record.key.phase is Phase.EXPLORE]
    assert sorted(record.key.number for record in explored) == list(range(6))
    assert {record.state for record in records} == {TrialState.COMPLETE}
    assert study.document.ended == "finished"
    begun = [trial.user_attrs.get(ATTEMPTS, 1) for trial in study.load(Phase.EXPLORE).trials]
    assert max(begun) > 1, "nothing ran on the host that was cut off"
    runs = runs_of("cut", "hosts", f"sqlite:///{cluster.folder}/mlflow.db")
    assert len({run.owner for run in runs}) == len(runs)
    assert not any(mismatches(study, records, runs, alive=False).values())
    assert study.weights_path(study.champion().record.key).is_file()
    assert str(study.checkpoints).startswith(str(cluster.shared))


def finished(home: Path) -> int:
    if not (home / "studies" / "cut" / "study.json").is_file():
        return 0
    return sum(record.finished for record in Study.open("cut", home).records())
