"""The service of docker-compose.yml, run for real by podman on stand-ins for the base images.

The tests follow each other on one deployment: a search, a lost worker, killed services, down and up, backup.
The image is built with PyPI's torch, since PyTorch's own index may be out of reach.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
import requests

from aiq_search.app.deploy import init_environment
from aiq_search.cluster.ports import free_port
from tests.deploy.conftest import ROOT, values
from tests.deploy.engine import (
    IMAGE,
    PROJECT,
    Deployment,
    addresses,
    build_images,
    podman,
    podman_service,
)

pytestmark = [pytest.mark.slow, pytest.mark.containers, pytest.mark.timeout(2400)]
PYTHON = "docker.io/library/python:3.11.14-slim-bookworm"
SMALL = {"training.epochs": 3, "confirm.runs": 6, "confirm.seeds": 2, "objective.constraints": "[]"}
LONG = SMALL | {
    "training.epochs": 150,
    "training.patience": "null",
    "training.engine": "torch",
    "search.pruner": "none",
}


@pytest.fixture(scope="module")
def deployment(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("containers")
    shutil.copy(ROOT / ".env.example", folder)
    init_environment(folder)
    _publish_at_free_ports(folder / ".env")
    with podman_service(folder) as socket_path:
        service = Deployment(folder, socket_path)
        service.compose("down", "--volumes", "--remove-orphans")
        try:
            start = time.monotonic()
            service.compose("up", "--detach", "--no-build")
            service.wait_until_healthy(4)
            print(f"\nfrom up to healthy: {time.monotonic() - start:.0f} s")
            yield service
        finally:
            service.compose("down", "--volumes", "--remove-orphans")


def _publish_at_free_ports(env_file):
    text = env_file.read_text()
    for name, default in (("MLFLOW", "5000"), ("RAY", "8265")):
        port = free_port()
        text = text.replace(f"PUBLISH_{name}_PORT={default}", f"PUBLISH_{name}_PORT={port}")
        text = text.replace(f"http://127.0.0.1:{default}", f"http://127.0.0.1:{port}")
    env_file.write_text(text)


@pytest.fixture
def aiq(deployment, tmp_path):
    """The command line of a client on this machine, outside of the containers."""
    wanted = ("RAY_", "MLFLOW_TRACKING_")
    secrets = {name: value for name, value in values(deployment.env_file).items() if name.startswith(wanted)}
    environment = {**os.environ, "AIQ_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **secrets}

    def call(*arguments):
        command = [sys.executable, "-m", "aiq_search", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    return call


def submit(aiq, study, trials, *options, settings=SMALL):
    space = ROOT / "search_spaces" / "digits.yaml"
    changes = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return aiq("submit", str(space), "--study", study, "--trials", str(trials), *changes, *options)


def trainings(deployment, study):
    """Every training of a study, as its driver's database has them."""
    (head,) = deployment.names("ray-head")
    return json.loads(podman("exec", head, "aiq", "trials", study, "--format", "json", check=False) or "[]")


def explored(rows):
    """Numbers of the trials; every training, of trials and finalists, is complete and there once."""
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert len({row["name"] for row in rows}) == len(rows)
    return sorted(row["trial"] for row in rows if row["phase"] == "explore")


def test_each_service_is_without_root_rights_or_a_writable_root(deployment):
    for name in deployment.names():
        status = podman("exec", name, "cat", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["Uid"].split()[0]) != 0, name
        assert (int(fields["CapEff"], 16), int(fields["CapBnd"], 16), fields["NoNewPrivs"]) == (0, 0, "1")
        touched = podman("exec", name, "sh", "-c", "touch /etc/x 2>/dev/null || echo refused")
        assert touched.strip() == "refused", name


def test_a_worker_has_no_secret_but_the_token_and_reaches_no_database(deployment):
    worker, head, postgres = (
        deployment.names(service)[0] for service in ("ray-worker", "ray-head", "postgres")
    )
    secrets = {name: value for name, value in values(deployment.env_file).items() if len(value) >= 32}
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    environment = json.loads(deployment.inside(worker, code))
    assert {name for name, value in secrets.items() if value in environment.values()} == {"RAY_AUTH_TOKEN"}
    for host in ("postgres", *addresses(postgres).values()):
        code = f"import socket; socket.create_connection(('{host}', 5432), timeout=5); print('reached')"
        assert deployment.inside(worker, code) == ""
        assert deployment.inside(head, code) == "reached"


def test_a_stranger_finds_no_door_but_the_two_ports_and_needs_a_secret_there(deployment):
    env = values(deployment.env_file)
    doors = {env["PUBLISH_MLFLOW_PORT"]: "5000", env["PUBLISH_RAY_PORT"]: "8265"}
    ports = podman("ps", f"--filter=label=com.docker.compose.project={PROJECT}", "--format={{.Ports}}")
    published = {entry.strip() for line in ports.splitlines() for entry in line.split(",") if "->" in entry}
    assert published == {f"127.0.0.1:{outer}->{inner}/tcp" for outer, inner in doors.items()}
    experiments = f"{env['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1"
    jobs = f"{env['RAY_API_SERVER_ADDRESS']}/api/jobs/"
    for url, guess in (
        (experiments, ""),
        (experiments, "Basic YWRtaW46cGFzc3dvcmQxMjM0"),
        (jobs, ""),
        (jobs, "Bearer guessed"),
    ):
        reply = requests.get(url, headers={"Authorization": guess}, timeout=60)
        assert reply.status_code in (401, 403), (url, guess)
    for port in doors:
        assert not reaches(other_address(), int(port))


def other_address():
    """This machine's address in its own network. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def reaches(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_container_on_another_network_reaches_no_database_and_no_worker(deployment):
    """Docker keeps networks apart; podman lets a container reach those that are not internal."""
    found = {}
    for service in ("postgres", "mlflow", "ray-head", "ray-worker"):
        (name,) = deployment.names(service)
        ports = listening(podman("exec", name, "cat", "/proc/net/tcp", "/proc/net/tcp6"))
        found |= {f"{address}:{port}": service for address in addresses(name).values() for port in ports}
    code = (
        "import socket, sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def reached(door):\n"
        "    host, port = door.split(':')\n"
        "    try:\n"
        "        socket.create_connection((host, int(port)), timeout=5).close()\n"
        "    except OSError:\n"
        "        return None\n"
        "    return door\n"
        "with ThreadPoolExecutor(32) as pool:\n"
        "    print(*filter(None, pool.map(reached, sys.argv[1:])))\n"
    )
    reached = podman("run", "--rm", "--network=podman", PYTHON, "python3", "-c", code, *found).split()
    assert {found[door] for door in reached} <= {"mlflow", "ray-head"}
    gcs = [door for door in reached if door.endswith(":6379")]
    assert len(gcs) <= 1
    code = "import sys; from ray._raylet import GcsClient; GcsClient(sys.argv[1]).internal_kv_keys(b'', None)"
    for door in gcs:
        for token in ([], ["--env=RAY_AUTH_MODE=token", f"--env=RAY_AUTH_TOKEN={'0' * 64}"]):
            command = ["run", "--rm", "--network=podman", *token, IMAGE, "python", "-c", code, door]
            refused = podman(*command, check=False, errors=True)
            assert "Unauthenticated" in refused


def listening(tables):
    """Ports that are open to other machines, of /proc/net/tcp and tcp6."""
    rows = [line.split() for line in tables.splitlines()]
    local = [row[1].split(":") for row in rows if row[3] == "0A"]
    return sorted({int(port, 16) for address, port in local if not address.endswith("0100007F")})


def test_a_search_runs_on_the_worker_and_its_champion_is_exported_from_outside(deployment, aiq, tmp_path):
    submit(aiq, "first", 4, "--follow")
    assert explored(trainings(deployment, "first")) == [0, 1, 2, 3]
    assert "Champion: trial" in aiq("best", "first")
    aiq("export", "first", "--output", str(tmp_path / "champion"))
    aiq("verify", str(tmp_path / "champion"))


def test_a_worker_that_is_killed_in_a_search_loses_no_trial_and_repeats_none(deployment, aiq):
    deployment.compose("up", "--detach", "--no-build", "--no-recreate", "--scale", "ray-worker=2")
    deployment.wait_until_healthy(5)
    submit(aiq, "lost", 8, settings=LONG)
    workers = deployment.names("ray-worker")
    deadline = time.monotonic() + 300
    while not (all(trains(name) for name in workers) and complete(deployment, "lost")):
        assert time.monotonic() < deadline, "no trial is complete while others run on both workers"
        time.sleep(1)
    deployment.kill(workers[0])
    aiq("logs", "--follow", "lost")
    rows = trainings(deployment, "lost")
    assert explored(rows) == list(range(8))
    in_mlflow = json.loads(aiq("trials", "lost", "--format", "json"))
    assert explored(in_mlflow) == list(range(8))
    assert len(in_mlflow) == len(rows)


def trains(name):
    """Whether a trial runs in a container."""
    return "ray::ResourceTrainable" in podman("top", name, "args", check=False)


def complete(deployment, study):
    """How many trainings of a study are complete; 0 also before there is a study."""
    return sum(row["state"] == "COMPLETE" for row in trainings(deployment, study))


def test_every_service_that_is_killed_starts_again_and_the_service_goes_on(deployment, aiq):
    deployment.compose("up", "--detach", "--no-build", "--no-recreate", "--scale", "ray-worker=1")
    for service in ("ray-worker", "mlflow", "postgres", "ray-head"):
        (name,) = deployment.names(service)
        deployment.kill(name)
        deployment.wait_until_healthy(4)
    assert "Champion: trial" in aiq("best", "first")
    submit(aiq, "after-kills", 2, "--follow")


def test_the_volumes_outlive_down_and_up(deployment, aiq):
    before = aiq("best", "first")
    deployment.compose("down")
    deployment.compose("up", "--detach", "--no-build")
    deployment.wait_until_healthy(4)
    assert aiq("best", "first") == before
    assert explored(trainings(deployment, "first")) == [0, 1, 2, 3]


def test_an_upgrade_of_the_image_interrupts_a_study_and_ends_none(deployment, aiq):
    trials = 24  # more than are trained while the containers are stopped
    build_images(version="0.1.1")
    try:
        submit(aiq, "upgraded", trials, settings=LONG)
        deadline = time.monotonic() + 300
        while not complete(deployment, "upgraded"):
            assert time.monotonic() < deadline, "no trial is complete"
            time.sleep(1)
        deployment.run(commands_of_readme("docker compose stop"))
        deployment.wait_until_healthy(4)
    finally:
        build_images()
    for service in ("mlflow", "ray-head", "ray-worker"):
        (name,) = deployment.names(service)
        assert podman("exec", name, "aiq", "--version").strip() == "0.1.1", service
    assert complete(deployment, "upgraded") < trials
    aiq("resume", "upgraded", "--follow")
    rows = trainings(deployment, "upgraded")
    assert explored(rows) == list(range(trials))
    assert len(json.loads(aiq("trials", "upgraded", "--format", "json"))) == len(rows)
    assert "Champion: trial" in aiq("best", "first")


def test_a_backup_is_restored_into_a_new_deployment(deployment, aiq, tmp_path):
    before = aiq("best", "first")
    deployment.run(commands_of_readme("mkdir backup"))
    deployment.compose("down", "--volumes")
    (deployment.folder / ".env").unlink()
    deployment.run(commands_of_readme("cp backup/.env ."))
    assert aiq("best", "first") == before
    aiq("export", "first", "--output", str(tmp_path / "champion"))
    assert explored(trainings(deployment, "first")) == [0, 1, 2, 3]


def commands_of_readme(beginning):
    """The block of deploy/README.md that has these words in its first command."""
    blocks = (ROOT / "deploy" / "README.md").read_text().split("\n```\n")
    (block,) = [block for block in blocks if beginning in block.splitlines()[0]]
    return block
