"""Podman behind docker-compose: how the tests of the containers start them and look into them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTING = ROOT / "deploy" / "testing"
PROGRAMS = ("podman", "runc", "debootstrap", "docker-compose")
PROJECT = "aiq-containers"


def reason_to_skip() -> str | None:
    """What this machine lacks, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install podman runc debootstrap docker-compose)"
    return "only root can run these containers" if os.geteuid() != 0 else None


def podman(*arguments: str, check: bool = True, timeout: float = 300) -> str:
    """Run podman, and return what it prints."""
    return _run("podman", *arguments, check=check, timeout=timeout).stdout


class Deployment:
    """The service of docker-compose.yml, run by podman."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.env_file = folder / ".env"
        self._environment = {
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
            command, env=self._environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def names(self, service: str = "") -> list[str]:
        """Containers of a service, or of all."""
        chosen = [f"--filter=label=com.docker.compose.project={PROJECT}"]
        if service:
            chosen.append(f"--filter=label=com.docker.compose.service={service}")
        return sorted(podman("ps", "--all", "--format={{.Names}}", *chosen).split())

    def wait_until_healthy(self, count: int, seconds: float = 600) -> float:
        """Wait for the health checks of `count` containers; return the seconds that it took."""
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            states = {name: state(name) for name in self.names()}
            if len(states) == count and all(each == "healthy" for each in states.values()):
                return time.monotonic() - start
            time.sleep(1)
        logs = "\n".join(podman("logs", "--tail=20", name, check=False) for name in self.names())
        raise AssertionError(f"not healthy after {seconds} s: {states}\n{logs}")


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
