"""The containers, run for real: podman brings docker-compose.yml up on stand-ins for the base images.

The image is built with PyPI's torch, since PyTorch's own index may be out of reach.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aiq_search.app.deploy import init_environment
from tests.deploy.conftest import ROOT, values
from tests.deploy.engine import (
    PROJECT,
    TESTING,
    Deployment,
    first_process,
    podman,
    podman_service,
    reason_to_skip,
)

pytestmark = [pytest.mark.slow, pytest.mark.containers, pytest.mark.timeout(2400)]
IMAGE = "docker.io/library/aiq-search:0.1.0"
PYTHON = "docker.io/library/python:3.11.14-slim-bookworm"


@pytest.fixture(scope="module")
def images():
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    script = ["bash", str(TESTING / "stand-ins.sh")]
    subprocess.run(script, check=True, env={**os.environ, "PATH": path}, timeout=1800)
    build = ["--network=host", "--pull=never", "--build-arg=TORCH_BACKEND=", f"--tag={IMAGE}"]
    podman("build", "--layers", *build, f"--file={ROOT / 'deploy' / 'Dockerfile'}", str(ROOT), timeout=2400)


@pytest.fixture(scope="module")
def deployment(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("containers")
    shutil.copy(ROOT / ".env.example", folder)
    init_environment(folder)
    with podman_service(folder) as socket:
        service = Deployment(folder, socket)
        service.compose("down", "--volumes", "--remove-orphans")
        try:
            service.compose("up", "--detach", "--no-build")
            service.wait_until_healthy(4)
            yield service
        finally:
            service.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture
def aiq(deployment, tmp_path):
    """The command line of a client on this machine, outside of the containers."""
    wanted = ("RAY_", "MLFLOW_TRACKING_")
    secrets = {name: value for name, value in values(deployment.env_file).items() if name.startswith(wanted)}
    environment = {**os.environ, "AIQ_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **secrets}

    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "aiq_search", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )

    return call


def inside(service, deployment, code):
    """Run Python inside a service's first container."""
    name = deployment.names(service)[0]
    return podman("exec", name, "python", "-c", code, check=False).strip()


def test_each_service_is_without_root_rights_or_a_writable_root(deployment):
    for name in deployment.names():
        status = podman("exec", name, "cat", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["Uid"].split()[0]) != 0, name
        assert (int(fields["CapEff"], 16), int(fields["CapBnd"], 16), fields["NoNewPrivs"]) == (0, 0, "1")
        assert (
            podman("exec", name, "sh", "-c", "touch /etc/x 2>/dev/null || echo refused").strip() == "refused"
        )


def test_a_worker_holds_no_secret_but_the_token_and_reaches_no_database(deployment):
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    environment = json.loads(inside("ray-worker", deployment, code))
    secret = {name: value for name, value in values(deployment.env_file).items() if len(value) >= 32}
    held = {name for name, value in secret.items() if value in environment.values()}
    assert held == {"RAY_AUTH_TOKEN"}
    (postgres,) = deployment.names("postgres")
    networks = json.loads(podman("inspect", "--format={{json .NetworkSettings.Networks}}", postgres))
    for host in ["postgres", *(network["IPAddress"] for network in networks.values())]:
        code = f"import socket; socket.create_connection(('{host}', 5432), timeout=5); print('reached')"
        assert inside("ray-worker", deployment, code) == ""
        assert inside("ray-head", deployment, code) == "reached"


def test_a_stranger_finds_no_open_door(deployment):
    ports = podman("ps", f"--filter=label=com.docker.compose.project={PROJECT}", "--format={{.Ports}}")
    published = {entry.strip() for line in ports.splitlines() for entry in line.split(",") if "->" in entry}
    assert published == {"127.0.0.1:5000->5000/tcp", "127.0.0.1:8265->8265/tcp"}
    code = (
        "import sys, urllib.error, urllib.request\n"
        "request = urllib.request.Request(sys.argv[1], headers={'Authorization': sys.argv[2]})\n"
        "try:\n"
        "    print(urllib.request.urlopen(request, timeout=30).status)\n"
        "except urllib.error.HTTPError as error:\n"
        "    print(error.code)\n"
    )
    mlflow = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1"
    for url, known in (
        (mlflow, ""),
        (mlflow, "Basic YWRtaW46cGFzc3dvcmQxMjM0"),
        ("http://127.0.0.1:8265/api/jobs/", ""),
        ("http://127.0.0.1:8265/api/jobs/", "Bearer guessed"),
    ):
        done = subprocess.run([sys.executable, "-c", code, url, known], capture_output=True, text=True)
        assert done.stdout.strip() in {"401", "403"}, f"{url} {known}: {done.stdout}{done.stderr}"


def test_a_search_runs_on_the_worker_and_its_champion_is_exported_from_outside(deployment, aiq, tmp_path):
    space = ROOT / "search_spaces" / "digits.yaml"
    small = ["--set", "training.epochs=2", "--set", "confirm.runs=2", "--set", "confirm.seeds=2"]
    done = aiq("submit", str(space), "--study", "first", "--follow", "--trials", "4", *small)
    assert done.returncode == 0, done.stdout + done.stderr
    done = aiq("best", "first")
    assert done.returncode == 0, done.stdout + done.stderr
    done = aiq("export", "first", "--output", str(tmp_path / "champion"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(Path(tmp_path / "champion").iterdir())


@pytest.mark.parametrize("service", ["ray-worker", "mlflow", "postgres", "ray-head"])
def test_a_service_that_is_killed_starts_again(deployment, service):
    (name,) = deployment.names(service)
    before = first_process(name)
    os.kill(before, signal.SIGKILL)
    deployment.wait_until_healthy(4)
    assert first_process(name) not in (0, before)
