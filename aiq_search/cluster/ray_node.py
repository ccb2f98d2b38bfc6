"""A Ray node as a plain process of this machine: the head, or a worker that joins it."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from aiq_search.cluster.connection import LOOPBACK
from aiq_search.cluster.ports import ask, free_port
from aiq_search.cluster.processes import Process
from aiq_search.cluster.service import (
    NotReadyError,
    Service,
    ServiceContext,
    stopped_on_failure,
    wait_until_ready,
)
from aiq_search.errors import AiqError
from aiq_search.http import root_cause

__all__ = ["HEAD", "worker"]

_HEAD_NAME = "ray-head"

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


def _start_head(context: ServiceContext) -> Iterator[Process]:
    """Start the head, and wait until its Jobs API answers."""
    command = [
        *_command(0 if context.workers else _cpus(context)),
        "--head",
        f"--port={context.ports['ray']}",
        f"--dashboard-host={_HOST}",
        f"--dashboard-port={context.ports['dashboard']}",
        f"--ray-client-server-port={free_port()}",
        f"--temp-dir={context.scratch}",
        "--disable-usage-stats",
    ]
    alone = {} if context.workers else LOOPBACK  # without other nodes every port is on 127.0.0.1
    yield from _start(context, _HEAD_NAME, command, {**context.job_environment, **alone})


def _start_worker(context: ServiceContext, number: int) -> Iterator[Process]:
    """Start a worker, and wait until the head knows it."""
    # A folder of its own: in one of the head's it would replace the files of the head's jobs.
    scratch = context.scratch.with_name(f"w{number}")
    head = f"{_HOST}:{context.ports['ray']}"
    command = [*_command(_cpus(context)), f"--address={head}", f"--temp-dir={scratch}"]
    yield from _start(context, worker(number).name, command, {})


HEAD = Service(_HEAD_NAME, _start_head)


def worker(number: int) -> Service:
    """The Ray worker of a number, from 1 on."""
    return Service(f"ray-worker-{number}", partial(_start_worker, number=number))


def _start(
    context: ServiceContext, service: str, command: Sequence[str], variables: Mapping[str, str]
) -> Iterator[Process]:
    """Start a node; again where it gives up, because Ray allows its own parts only 30 s to come up."""
    log, environment = context.log(service), _environment(context.folder, variables)
    for attempt in range(1, _ATTEMPTS + 1):
        name = f"aiq-{secrets.token_hex(4)}"  # the head may still count one that has just died
        process = Process.start([*command, f"--node-name={name}"], environment, context.folder, log)
        with stopped_on_failure(process):
            yield process
            try:
                wait_until_ready(service, process, log, partial(_find, context, name), at_most=_READY)
                return
            except AiqError:
                if process.alive or attempt == _ATTEMPTS:
                    raise
        process.end()


def _find(context: ServiceContext, name: str) -> bool:
    """Whether the head knows a node.

    Raises:
        NotReadyError: It does not, or does not answer yet.
    """
    token = (context.folder / "ray.token").read_text(encoding="utf-8").strip()
    try:
        answer = ask(context.ports["dashboard"], "/nodes?view=summary", f"Bearer {token}")
        nodes = [each["raylet"] for each in json.loads(answer)["data"]["summary"]]
    except OSError as error:
        raise NotReadyError(root_cause(error)) from None
    except (ValueError, KeyError, TypeError):
        raise NotReadyError("its dashboard is starting") from None
    if not any(node.get("nodeName") == name and node.get("state") == "ALIVE" for node in nodes):
        raise NotReadyError("the head does not know it yet")
    return True


def _cpus(context: ServiceContext) -> int:
    """Logical CPUs of a node that runs trials: its share of this machine's."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, context.workers))


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
