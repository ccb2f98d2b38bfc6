"""A real MLflow server with authentication, as the deployment configures it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from aiq_search.cluster.ports import free_port
from tests.support.waiting import wait_for

__all__ = ["AuthenticatedServer", "authenticated_server"]

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "mlflow" / "basic_auth.ini"


@dataclass(frozen=True)
class AuthenticatedServer:
    """A server that runs, and the passwords of its users.

    Attributes:
        url: Its address.
        folder: Its database and, in ``artifacts``, what it keeps.
        environment: It was started with.
        passwords: By user.
        session: Keeps the connection.
    """

    url: str
    folder: Path
    environment: Mapping[str, str]
    passwords: dict[str, str]
    session: requests.Session = field(default_factory=requests.Session)

    def ask(self, user: str, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request as a user."""
        return self.session.request(
            method, f"{self.url}{path}", auth=(user, self.passwords[user]), timeout=60, **options
        )

    def create_user(self, name: str) -> None:
        """Make a user as an administrator would."""
        self.passwords[name] = secrets.token_hex(16)
        document = {"username": name, "password": self.passwords[name]}
        self.ask("admin", "POST", "/api/2.0/mlflow/users/create", json=document).raise_for_status()


@contextmanager
def authenticated_server(folder: Path) -> Iterator[AuthenticatedServer]:
    """Serve an empty store with the users ``admin`` and ``aiq-driver`` while the context lasts.

    Args:
        folder: An empty folder.
    """
    configuration = folder / "auth.ini"
    lines = [
        f"database_uri = sqlite:///{folder}/users.db" if line.startswith("database_uri") else line
        for line in CONFIGURATION.read_text().splitlines()
    ]
    configuration.write_text("\n".join(lines))
    passwords = {name: secrets.token_hex(16) for name in ("admin", "aiq-driver")}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_AUTH_ADMIN_PASSWORD": passwords["admin"],
        "MLFLOW_DRIVER_PASSWORD": passwords["aiq-driver"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    subprocess.run([sys.executable, "-m", "aiq_search.tracking.users"], env=environment, check=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    server = AuthenticatedServer(f"http://127.0.0.1:{port}", folder, environment, passwords)
    try:
        wait_for(lambda: process.poll() is not None or _answers(server.url), what="MLflow's server")
        assert process.poll() is None, (folder / "server.log").read_text()
        yield server
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for each in family:
            each.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.RequestException:
        return False
