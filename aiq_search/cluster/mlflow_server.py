"""MLflow's server as a plain process: with PostgreSQL, proxied artifacts and basic authentication."""

from __future__ import annotations

import base64
import os
import sys
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from aiq_search.cluster.credentials import ADMIN, Credentials, write_private
from aiq_search.cluster.ports import ask
from aiq_search.cluster.postgres import ONLY_SCRAM, postgres_url
from aiq_search.cluster.processes import Process
from aiq_search.errors import AiqError

__all__ = ["start_mlflow"]

_READY = 900.0  # seconds that the first start may take, which makes the tables: minutes on a busy machine

# What a browser or a client calls this server, also through a tunnel that ends on another port.
_HOSTS = "127.0.0.1,localhost,127.0.0.1:*,localhost:*"

_CONFIGURATION = """[mlflow]
default_permission = READ
database_uri = {database}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
auth_cache_ttl_seconds = 60
"""


def start_mlflow(
    folder: Path,
    port: int,
    database_port: int,
    credentials: Credentials,
    log: Path,
    note: Callable[[Process], object],
) -> Process:
    """Start the server, and wait until it answers.

    Args:
        folder: The cluster's folder: artifacts and configuration lie there.
        port: Where it listens, on 127.0.0.1 alone.
        database_port: Where PostgreSQL listens.
        credentials: Of the cluster.
        log: What it prints is appended there.
        note: Told of the process before it is waited for.

    Raises:
        AiqError: It does not start; the message says why.
    """
    configuration = folder / "mlflow-auth.ini"
    users = postgres_url("mlflow", "mlflow_auth", database_port)
    write_private(configuration, _CONFIGURATION.format(database=users, admin=ADMIN))
    # PG: PostgreSQL's clients read them, and a user's PGPASSWORD would go before our password file.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG"))
    }
    environment |= {
        "MLFLOW_BACKEND_STORE_URI": postgres_url("mlflow", "mlflow", database_port),
        "MLFLOW_ARTIFACTS_DESTINATION": (folder / "mlartifacts").as_uri(),
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_AUTH_ADMIN_PASSWORD": credentials.mlflow_admin,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": credentials.mlflow_key,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of MLflow's own jobs for GenAI: half a gigabyte
        # A request takes two connections, and those beyond the pool connect anew each time.
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "10",
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "5",
        "PGPASSFILE": str(folder / "mlflow.pgpass"),
        **ONLY_SCRAM,
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "2", "--app-name", "basic-auth", "--allowed-hosts", _HOSTS]
    process = Process.start(command, environment, folder, log)
    note(process)
    try:
        _wait(process, port, credentials, log)
    except BaseException:
        process.end()
        raise
    return process


def _wait(process: Process, port: int, credentials: Credentials, log: Path) -> None:
    """Wait until the server takes our administrator."""
    word = base64.b64encode(f"{ADMIN}:{credentials.mlflow_admin}".encode()).decode()
    deadline, said = time.monotonic() + _READY, "it does not answer"
    while process.alive and time.monotonic() < deadline:
        try:
            ask(port, "/api/2.0/mlflow/experiments/search?max_results=1", f"Basic {word}")
            return
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise AiqError(
                    f"MLflow on port {port} refuses the administrator's password: its database was made with "
                    "another one. Restore credentials.json, or `aiq cluster down --delete-data`."
                ) from None
            said = f"it answers {error.code}"
        except OSError as error:
            said = str(getattr(error, "reason", error))
        time.sleep(0.2)
    raise AiqError(f"MLflow did not start ({said}); its log says more: {log}")
