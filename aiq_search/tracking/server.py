"""The MLflow user interface on this machine: a server for the store, ended with the one who asked."""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aiq_search.errors import AiqError, InputError
from aiq_search.http import basic_auth, fetch
from aiq_search.polling import poll
from aiq_search.redaction import redact
from aiq_search.tracking.layout import VIEW
from aiq_search.tracking.uri import artifact_root, check_tracking_uri, is_server

__all__ = ["UiServer", "page_of", "serving"]

READY = 90.0  # seconds that MLflow may take to start; the first use of a database makes its tables
TRAINING = "workflowType=machine_learning"  # MLflow opens in its view for GenAI otherwise
MARK = "x-aiq-server"  # header by which a server is known to be the one that was started
_API = "api/2.0/mlflow"
AUTH = ("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD")


@dataclass(frozen=True)
class UiServer:
    """A server that answers at ``url``; ``process`` is None where it was there before."""

    url: str
    process: subprocess.Popen[bytes] | None = None

    def wait(self) -> int:
        """Wait until the server ends and return its exit code."""
        return self.process.wait() if self.process else 0


@contextmanager
def serving(uri: str, host: str = "127.0.0.1", port: int | None = None) -> Iterator[UiServer]:
    """Serve the store ``uri`` while the context lasts.

    Args:
        uri: Store to show. If it is a server already, that one is used.
        host: Address to listen on; others than this machine's own need MLflow's authentication.
        port: Port to listen on; by default 5000, or a free one if that is taken.

    Raises:
        InputError: the address is open to others without authentication, the port is taken, or the
            store is none.
        AiqError: MLflow did not start.
    """
    check_tracking_uri(uri)
    if is_server(uri):
        yield UiServer(redact(uri))
        return
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--workers", "1"]
    command += _authentication(host, os.environ)
    place = _port(host, port)
    # Someone else may take the port before our server does, and would answer in its place.
    name = secrets.token_hex(8)
    command += ["--port", str(place), "--uvicorn-opts", f"--header {MARK}:{name}"]
    root = artifact_root(uri)
    # In the environment, because a process list shows arguments, and the URI may hold a password.
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes for GenAI jobs that nobody starts
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment.setdefault("MLFLOW_AUTH_CONFIG_PATH", str(Path(__file__).with_name("basic_auth.ini")))
    if root:
        environment["MLFLOW_ARTIFACTS_DESTINATION"] = root
    # A group of its own, so that Ctrl-C reaches us alone and all of the server's workers end together.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://{_shown(host)}:{place}"
            _wait_for(url, name, process, log)
            yield UiServer(url, process)
        finally:
            _end(process)


def page_of(server: UiServer, experiment: str | None, owners: Sequence[str] = ()) -> str:
    """Address of the page to open: the first owner's run that is there, else the experiment's table.

    Args:
        server: The server.
        experiment: Name of the experiment; the start page is shown without one, or where it is not there.
        owners: Keys of trials, or ids of studies.
    """
    if experiment is None:
        return server.url
    with suppress(OSError, KeyError, IndexError, ValueError):
        name = urllib.parse.quote(experiment)
        answer = _ask(server, f"{_API}/experiments/get-by-name?experiment_name={name}")
        experiment_id = answer["experiment"]["experiment_id"]
        _warm_up(server, experiment_id)
        page = f"{server.url}/#/experiments/{experiment_id}/runs"
        table = f"{page}?{TRAINING}&viewStateShareKey={VIEW}"
        for owner in owners:
            with suppress(OSError, KeyError, IndexError, ValueError):
                where = f"tags.`aiq.trial_key` = '{owner}'"
                wanted = {"experiment_ids": [experiment_id], "filter": where, "max_results": 1}
                runs = _ask(server, f"{_API}/runs/search", wanted)
                return f"{page}/{runs['runs'][0]['info']['run_id']}?{TRAINING}"
        return table
    return server.url


def _warm_up(server: UiServer, experiment_id: str) -> None:
    """Ask what the page asks first: a fresh server imports and compiles for seconds before it answers that.

    Measured on a busy machine: GraphQL took 11 s the first time and 0.6 s the second, the table 12 and 4.
    """
    query = 'query { mlflowGetExperiment(input: {experimentId: "%s"}) { experiment { name } } }'
    first = (
        ("graphql", {"query": query % experiment_id}),
        (f"{_API}/runs/search", {"experiment_ids": [experiment_id], "max_results": 100}),
    )
    with ThreadPoolExecutor(len(first)) as pool:
        for answer in [pool.submit(_ask, server, path, document) for path, document in first]:
            with suppress(OSError, ValueError):  # the page is there all the same, only later
                answer.result()


def _authentication(host: str, environment: Mapping[str, str]) -> list[str]:
    """Arguments that an address needs: none on this machine alone, else MLflow's basic authentication."""
    if _is_loopback(host):
        return []
    missing = [name for name in AUTH if not environment.get(name)]
    if missing:
        raise InputError(
            f"Listening on {host} shows every run to the network, so authentication must be configured, but "
            f"{' and '.join(missing)} is not set. Set both (and install mlflow[auth]), or leave --host out "
            "to listen on 127.0.0.1 and reach it through an SSH tunnel (ssh -L 5000:127.0.0.1:5000 HOST)."
        )
    return ["--app-name", "basic-auth"]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(host: str) -> str:
    """The host as a browser on this machine reaches it."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104


def _port(host: str, wanted: int | None) -> int:
    """A port that is free now."""
    for candidate in (5000, 0) if wanted is None else (wanted,):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InputError(
        f"Port {wanted} of {host} must be free, but something else listens there. Give another --port, or "
        "leave it out to get a free one."
    )


def _wait_for(url: str, name: str, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            log.seek(0)
            output = redact(log.read().decode(errors="replace")).strip()
            raise AiqError(f"MLflow's server ended before it was ready: {output[-1500:]}")
        with suppress(OSError):
            return fetch(f"{url}/health", timeout=2, direct=True).headers.get(MARK) == name
        return False

    if not poll(answers, every=0.1, at_most=READY):
        raise AiqError(
            f"MLflow's server did not answer at {url} within {READY:.0f} s: the machine is too busy, or "
            "another program has locked MLflow's database. Close what needs the processors, and try again."
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, which are one process group: kindly, then at once."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    process.wait()


def _ask(server: UiServer, path: str, document: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Ask MLflow's server, logging in as MLflow's own clients do: GET, or POST of a document."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    login = basic_auth(user, password) if user and password else None
    method = "GET" if document is None else "POST"
    # Through no proxy where the server is our own.
    direct, url = server.process is not None, f"{server.url}/{path}"
    reply = fetch(url, method=method, json=document, authorization=login, direct=direct)
    answer: dict[str, Any] = reply.json()
    return answer
