"""Podman behind docker-compose: how the tests of the containers start them and look into them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTING = ROOT / "deploy" / "testing"
PROGRAMS = ("podman", "runc", "debootstrap", "docker-compose", "catatonit")
PACKAGES = "podman runc netavark aardvark-dns catatonit debootstrap docker-compose"
PROJECT = "aiq-containers"
IMAGE = "docker.io/library/aiq-search:0.1.0"

# `docker compose` by way of docker-compose 1, which does not know --wait.
_COMPOSE = """
docker() {{
  shift
  local words=() wait=
  for word; do [ "$word" = --wait ] && wait=1 || words+=("$word"); done
  docker-compose -p {project} --env-file "$PWD/.env" \\
    -f {root}/docker-compose.yml --project-directory {root} "${{words[@]}}"
  [ -n "$wait" ] || return 0
  while podman ps --filter=label=com.docker.compose.project={project} --format='{{{{.Status}}}}' |
    grep -qv '(healthy)'; do sleep 2; done
}}
"""


def reason_to_skip() -> str | None:
    """What this machine lacks, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install {PACKAGES})"
    return "only root can run these containers" if os.geteuid() != 0 else None


def build_images(version: str = "0.1.0") -> None:
    """Build the image on stand-ins for the base images; a moment, where nothing has changed.

    Args:
        version: Of this package in the image.
    """
    environment = {**os.environ, "PATH": _path()}
    subprocess.run(["bash", str(TESTING / "stand-ins.sh")], check=True, env=environment, timeout=1800)
    build = ["--network=host", "--pull=never", "--build-arg=TORCH_BACKEND=", f"--build-arg=VERSION={version}"]
    podman(
        "build",
        "--layers",
        *build,
        f"--tag={IMAGE}",
        f"--file={ROOT / 'deploy' / 'Dockerfile'}",
        str(ROOT),
        timeout=2400,
    )


def podman(*arguments: str, check: bool = True, errors: bool = False, timeout: float = 300) -> str:
    """Run podman, and return what it prints; what it reports as errors, too, with ``errors``."""
    done = _run("podman", *arguments, check=check, timeout=timeout)
    return done.stdout + (done.stderr if errors else "")


class Deployment:
    """The service of docker-compose.yml, run by podman."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.folder = folder
        self.env_file = folder / ".env"
        self.environment = {
            "PATH": _path(),
            "HOME": str(folder),
            "DOCKER_HOST": f"unix://{socket}",
            "COMPOSE_HTTP_TIMEOUT": "600",
        }

    def compose(self, *arguments: str, timeout: float = 900) -> str:
        """Run docker-compose on the file as it is."""
        files = ["--env-file", str(self.env_file), "-f", str(ROOT / "docker-compose.yml")]
        command = ["docker-compose", "-p", PROJECT, *files, *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, commands: str, timeout: float = 1800) -> None:
        """Run commands as deploy/README.md has them, in the folder of `.env`."""
        script = _COMPOSE.format(project=PROJECT, root=ROOT) + commands
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env={**_environment(), **self.environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def names(self, service: str = "") -> list[str]:
        """Containers of a service, or of all."""
        chosen = [f"--filter=label=com.docker.compose.project={PROJECT}"]
        if service:
            chosen.append(f"--filter=label=com.docker.compose.service={service}")
        return sorted(podman("ps", "--all", "--format={{.Names}}", *chosen).split())

    def inside(self, name: str, code: str) -> str:
        """Run Python in a container; return what it prints."""
        return podman("exec", name, "python", "-c", code, check=False).strip()

    def kill(self, name: str) -> None:
        """Kill a container's first process, and wait until the engine has started it again."""
        before = first_process(name)
        os.kill(before, signal.SIGKILL)
        deadline = time.monotonic() + 180
        while first_process(name) in (0, before):
            assert time.monotonic() < deadline, f"{name} was not started again"
            time.sleep(1)

    def wait_until_healthy(self, count: int, seconds: float = 600) -> None:
        """Wait for the health checks of `count` containers."""
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            states = {name: state(name) for name in self.names()}
            if len(states) == count and all(each == "healthy" for each in states.values()):
                return
            time.sleep(1)
        logs = "\n".join(podman("logs", "--tail=20", name, check=False) for name in self.names())
        raise AssertionError(f"not healthy after {seconds} s: {states}\n{logs}")


def first_process(name: str) -> int:
    """The process id, on this machine, of a container's first process; 0 while it has none."""
    return int(podman("inspect", "--format={{.State.Pid}}", name))


def addresses(name: str) -> dict[str, str]:
    """The address of a container in each of its networks."""
    networks = json.loads(podman("inspect", "--format={{json .NetworkSettings.Networks}}", name))
    return {network: str(settings["IPAddress"]) for network, settings in networks.items()}


def state(name: str) -> str:
    """Health of a container, or its status while it does not run."""
    done = _run("podman", "inspect", "--format={{json .State}}", name, check=False)
    if done.returncode != 0:
        return "gone"
    found = json.loads(done.stdout)
    return str(found["Health"]["Status"] if found["Running"] else found["Status"])


@contextmanager
def podman_service(folder: Path) -> Iterator[Path]:
    """Podman's answer to Docker's socket, with the health checks that systemd's timers would start."""
    socket = folder / "podman.sock"
    with (folder / "podman.log").open("wb") as log:
        process = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{socket}"],
            env=_environment(),
            stdout=log,
            stderr=log,
        )
    ended = threading.Event()
    checks = threading.Thread(target=_check_health, args=(ended,), daemon=True)
    checks.start()
    try:
        while not socket.exists():
            assert process.poll() is None, (folder / "podman.log").read_text()
            time.sleep(0.1)
        yield socket
    finally:
        ended.set()
        checks.join()
        process.terminate()
        process.wait()


def _check_health(ended: threading.Event) -> None:
    """Podman leaves the rhythm of health checks to systemd, which not every machine runs."""
    while not ended.wait(5):
        chosen = f"--filter=label=com.docker.compose.project={PROJECT}"
        for name in podman("ps", "--format={{.Names}}", chosen, check=False).split():
            _run("podman", "healthcheck", "run", name, check=False)


def _path() -> str:
    return f"/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}"


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _path(), "CONTAINERS_CONF": str(TESTING / "containers.conf")}


def _run(*command: str, check: bool, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=timeout)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
