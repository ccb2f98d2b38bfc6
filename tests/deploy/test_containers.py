"""PostgreSQL and MLflow of docker-compose.yml, run for real by podman on stand-ins for the base images.

The image is built with PyPI's torch, since PyTorch's own index may be out of reach.
"""

import os
import shutil
import subprocess
import sys

import pytest

from aiq_search.app.deploy import init_environment
from tests.deploy.conftest import ROOT
from tests.deploy.engine import (
    PROJECT,
    TESTING,
    Deployment,
    podman,
    podman_service,
    reason_to_skip,
)

pytestmark = [pytest.mark.slow, pytest.mark.containers, pytest.mark.timeout(2400)]
IMAGE = "docker.io/library/aiq-search:0.1.0"


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
            service.compose("up", "--detach", "--no-build", "mlflow")
            service.wait_until_healthy(2)
            yield service
        finally:
            service.compose("down", "--volumes", "--remove-orphans")


def test_each_service_is_without_root_rights_or_a_writable_root(deployment):
    for name in deployment.names():
        status = podman("exec", name, "cat", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["Uid"].split()[0]) != 0, name
        assert (int(fields["CapEff"], 16), int(fields["CapBnd"], 16), fields["NoNewPrivs"]) == (0, 0, "1")
        assert (
            podman("exec", name, "sh", "-c", "touch /etc/x 2>/dev/null || echo refused").strip() == "refused"
        )


def test_a_stranger_finds_no_open_door(deployment):
    ports = podman("ps", f"--filter=label=com.docker.compose.project={PROJECT}", "--format={{.Ports}}")
    published = {entry.strip() for line in ports.splitlines() for entry in line.split(",") if "->" in entry}
    assert published == {"127.0.0.1:5000->5000/tcp"}
    code = (
        "import sys, urllib.error, urllib.request\n"
        "request = urllib.request.Request(sys.argv[1], headers={'Authorization': sys.argv[2]})\n"
        "try:\n"
        "    print(urllib.request.urlopen(request, timeout=30).status)\n"
        "except urllib.error.HTTPError as error:\n"
        "    print(error.code)\n"
    )
    mlflow = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1"
    for known in ("", "Basic YWRtaW46cGFzc3dvcmQxMjM0"):
        done = subprocess.run([sys.executable, "-c", code, mlflow, known], capture_output=True, text=True)
        assert done.stdout.strip() == "401", f"{known}: {done.stdout}{done.stderr}"
