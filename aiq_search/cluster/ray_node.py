"""A Ray node as a plain process of this machine: the head, or a worker that joins it."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiq_search.cluster.connection import LOOPBACK
from aiq_search.cluster.ports import ask, free_port
from aiq_search.cluster.processes import Process
from aiq_search.errors import AiqError

__all__ = ["start_head", "start_worker"]

# Seconds that a node may take to start. Ray's own limits for its dashboard are too short for a busy machine.
_READY = 900.0
_PATIENCE = {
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "600",
}

_ATTEMPTS = 3

_HOST = "127.0.0.1"

# Bytes of a node's object store. Data sets go through it, networks do not; Ray would take a third of the
# memory for each node, and these nodes share one machine.
_STORE = 1_000_000_000


def start_head(
    folder: Path,
    ports: Mapping[str, int],
    scratch: Path,
    environment: Mapping[str, str],
    cpus: int,
    alone: bool,
    log: Path,
    note: Callable[[Process], object],
) -> Process:
    """Start the head, and wait until its Jobs API answers.

    Args:
        folder: The cluster's folder; holds ``ray.token``.
        ports: ``ray`` (the head's own) and ``dashboard``.
        scratch: Ray's folder for sockets and logs: a short path.
        environment: Of the jobs that will run there, beside this process's own.
        cpus: Logical CPUs for trials.
        alone: No worker will join it: all of its ports are on 127.0.0.1 then.
        log: What it prints is appended there.
        note: Told of the process before it is waited for.

    Raises:
        AiqError: It does not start; the message says where to look.
    """
    command = [
        *_command(cpus),
        "--head",
        f"--port={ports['ray']}",
        f"--dashboard-host={_HOST}",
        f"--dashboard-port={ports['dashboard']}",
        f"--ray-client-server-port={free_port()}",
        f"--temp-dir={scratch}",
        "--disable-usage-stats",
    ]
    if alone:
        environment = {**environment, **LOOPBACK}
    return _start(command, _environment(folder, environment), folder, ports["dashboard"], log, note)


def start_worker(
    folder: Path,
    ports: Mapping[str, int],
    scratch: Path,
    cpus: int,
    log: Path,
    note: Callable[[Process], object],
) -> Process:
    """Start a worker, and wait until the head knows it.

    Args:
        folder: The cluster's folder.
        ports: Of the head.
        scratch: A folder of its own: in one of the head's it would replace the files of the head's jobs.
        cpus: Logical CPUs for trials.
        log: What it prints is appended there.
        note: Told of the process before it is waited for.

    Raises:
        AiqError: It does not start; the message says where to look.
    """
    command = [*_command(cpus), f"--address={_HOST}:{ports['ray']}", f"--temp-dir={scratch}"]
    return _start(command, _environment(folder, {}), folder, ports["dashboard"], log, note)


def _start(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    dashboard: int,
    log: Path,
    note: Callable[[Process], object],
) -> Process:
    """Start a node; again where it gives up, because Ray allows its own parts only 30 s to come up."""
    for _ in range(_ATTEMPTS):
        name = f"aiq-{secrets.token_hex(4)}"  # the head may still count one that has just died
        process = Process.start([*command, f"--node-name={name}"], environment, folder, log)
        note(process)
        try:
            if _is_known(process, dashboard, folder / "ray.token", name):
                return process
        except BaseException:
            process.end()
            raise
        process.end()
    raise AiqError(f"a Ray node did not start; its log says why: {log}")


def _is_known(process: Process, dashboard: int, token: Path, name: str) -> bool:
    """Wait until the head knows a node; False where the process ends before."""
    deadline = time.monotonic() + _READY
    while process.alive and time.monotonic() < deadline:
        if name in _alive_nodes(dashboard, token):
            return True
        time.sleep(0.3)
    return False


def _command(cpus: int) -> list[str]:
    """What every node is started with; without a port of their own, two nodes would ask for the same."""
    return [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--block",
        f"--node-ip-address={_HOST}",
        f"--num-cpus={cpus}",
        f"--object-store-memory={_STORE}",
        f"--dashboard-agent-listen-port={free_port()}",
        "--min-worker-port=0",  # any: the default range may hold a port that is named above
        "--max-worker-port=0",
    ]


def _environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """This environment without what leads Ray or PostgreSQL's clients elsewhere, and what a node needs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PG"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "ray.token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        **_PATIENCE,
        **more,
    }


def _alive_nodes(dashboard: int, token: Path) -> set[str]:
    """Names of the nodes that the head knows; none where it does not answer."""
    word = f"Bearer {token.read_text(encoding='utf-8').strip()}"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(ask(dashboard, "/nodes?view=summary", word))
        summary: list[dict[str, Any]] = known["data"]["summary"]
        return {n["raylet"]["nodeName"] for n in summary if n["raylet"].get("state") == "ALIVE"}
    return set()
