"""MLflow's server as a plain process: with PostgreSQL, proxied artifacts and basic authentication."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

from aiq_search.cluster.credentials import ADMIN, write_private
from aiq_search.cluster.ports import ask
from aiq_search.cluster.postgres import ONLY_SCRAM, postgres_url
from aiq_search.cluster.processes import Process, open_log
from aiq_search.cluster.service import (
    NotReadyError,
    Service,
    ServiceContext,
    stopped_on_failure,
    wait_until_ready,
)
from aiq_search.errors import AiqError
from aiq_search.http import basic_auth, root_cause

__all__ = ["MLFLOW"]

_READY = 900.0  # seconds that the first start may take, which makes the tables: minutes on a busy machine

# What a browser or a client calls this server, also through a tunnel that ends on another port.
_HOSTS = "127.0.0.1,localhost,127.0.0.1:*,localhost:*"

_CONFIGURATION = """[mlflow]
default_permission = READ
database_uri = {database}
admin_username = {admin}
authorization_function = aiq_search.tracking.authorization:authorize
grant_default_workspace_access = false
auth_cache_ttl_seconds = 60
"""


def _start(context: ServiceContext) -> Iterator[Process]:
    """Start the server on 127.0.0.1, and wait until it accepts our administrator."""
    configuration, log = context.folder / "mlflow-auth.ini", context.log("mlflow")
    database, port = context.ports["postgres"], context.ports["mlflow"]
    users = postgres_url("mlflow", "mlflow_auth", database)
    write_private(configuration, _CONFIGURATION.format(database=users, admin=ADMIN))
    environment = _environment(context) | {
        "MLFLOW_BACKEND_STORE_URI": postgres_url("mlflow", "mlflow", database),
        "MLFLOW_ARTIFACTS_DESTINATION": (context.folder / "mlartifacts").as_uri(),
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_AUTH_ADMIN_PASSWORD": context.credentials.mlflow_admin,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": context.credentials.mlflow_key,
    }
    _prepare_users(context, environment)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "2", "--app-name", "basic-auth", "--allowed-hosts", _HOSTS]
    process = Process.start(command, environment, context.folder, log)
    with stopped_on_failure(process):
        yield process
        wait_until_ready("MLflow", process, log, lambda: _log_in(context), at_most=_READY)


MLFLOW = Service("mlflow", _start)


def _environment(context: ServiceContext) -> dict[str, str]:
    """What the server gets of this environment, and settings that hold no secret."""
    # PG: PostgreSQL's clients read them, and a user's PGPASSWORD would go before our password file.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG"))}
    return ours | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",  # what MLflow has no rule for is refused
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of MLflow's own jobs for GenAI: half a gigabyte
        # A request takes two connections, and those beyond the pool connect again each time.
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "10",
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "5",
        "PGPASSFILE": str(context.folder / "mlflow.pgpass"),
        **ONLY_SCRAM,
    }


def _prepare_users(context: ServiceContext, environment: Mapping[str, str]) -> None:
    """Make the user that jobs log in as; only this process, not the server, learns its password."""
    password = {"MLFLOW_DRIVER_PASSWORD": context.credentials.mlflow_driver}
    with open_log(context.log("mlflow")) as log:
        done = subprocess.run(
            [sys.executable, "-m", "aiq_search.tracking.users"],
            env={**environment, **password},
            cwd=context.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    if done.returncode != 0:
        raise AiqError(f"MLflow's users cannot be prepared; see its log: {context.log('mlflow')}")


def _log_in(context: ServiceContext) -> bool:
    """Ask as the administrator.

    Raises:
        NotReadyError: The server does not answer yet.
        AiqError: It refuses the password.
    """
    import requests

    port, word = context.ports["mlflow"], basic_auth(ADMIN, context.credentials.mlflow_admin)
    try:
        ask(port, "/api/2.0/mlflow/experiments/search?max_results=1", word)
    except requests.HTTPError as error:
        status = None if error.response is None else error.response.status_code
        if status in (401, 403):
            raise AiqError(
                f"MLflow on port {port} refuses the administrator's password: its database was made with "
                "another one. Restore credentials.json, or `aiq cluster down --delete-data`."
            ) from None
        raise NotReadyError(f"it answers {status}") from None
    except OSError as error:
        raise NotReadyError(root_cause(error)) from None
    return True
