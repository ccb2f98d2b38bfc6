"""The cluster of this folder, for every command that is given here."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from aiq_search.cluster.local import LocalCluster
from aiq_search.errors import InputError
from aiq_search.study.home import aiq_home

__all__ = ["adopt_cluster", "connection_lines", "leave_cluster", "local_cluster", "stop_cluster"]

_RAY = ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH")
_MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")

# What is adopted together, and what else belongs to it: whoever set any of these means another cluster, whose
# secrets must not be mixed with ours.
_GROUPS = (
    (_RAY, ("RAY_AUTH_TOKEN",)),
    (_MLFLOW, ("MLFLOW_TRACKING_TOKEN",)),
    (("PGPASSFILE",), ()),
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def local_cluster(home: Path | None = None) -> LocalCluster:
    """The cluster of AIQ_HOME, whether it runs or not."""
    return LocalCluster(home or aiq_home())


def adopt_cluster() -> str | None:
    """Let this process find the cluster that runs in AIQ_HOME, unless its environment names another.

    Returns:
        A warning if a part of the cluster is not running; else None.
    """
    if not (aiq_home() / "cluster" / "state.json").is_file():
        return None
    cluster = local_cluster()
    state = cluster.state
    if state is None:
        return None
    if dead := state.dead:
        return (
            f"parts of the cluster of {cluster.home} are not running ({', '.join(dead)}): restart them with "
            "`aiq cluster up`, or stop the rest with `aiq cluster down`."
        )
    environment = cluster.client_environment(state)
    for names, others in _GROUPS:
        if not any(os.environ.get(name) for name in (*names, *others)):
            os.environ |= {name: environment[name] for name in names}
    return None


def stop_cluster(
    agree: Callable[[list[str]], bool],
    *,
    delete_data: bool = False,
    report: Callable[[str], object] = lambda _: None,
    home: Path | None = None,
) -> list[str] | None:
    """Stop the services of AIQ_HOME's cluster, unless a study needs them.

    Args:
        agree: Asked with the ids of the running studies, if there are any.
        delete_data: See ``LocalCluster.down``.
        report: See ``LocalCluster.down``.
        home: AIQ_HOME.

    Returns:
        The services that were running; None where nobody agreed.
    """
    from aiq_search.study import list_studies  # and Optuna, which other commands do not need here

    cluster = local_cluster(home)
    running = [study.id for study in list_studies(cluster.home) if study.is_running]
    if cluster.state is not None and running and not agree(running):
        return None
    return cluster.down(delete_data, report=report)


def leave_cluster(address: str | None) -> None:
    """Forget the adopted cluster's token if a command names another cluster: it would be sent there.

    Args:
        address: Of the Ray dashboard that the command talks to; None for the adopted one.
    """
    adopted, token = (os.environ.get(name) for name in _RAY)
    if address is None or adopted is None or _endpoint(address) == _endpoint(adopted):
        return
    if token == str(local_cluster().folder / "ray.token"):
        del os.environ["RAY_AUTH_TOKEN_PATH"]


def _endpoint(address: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address: this machine has several names."""
    try:
        parts = urlsplit(address)
        return parts.scheme, "127.0.0.1" if parts.hostname in _LOOPBACK else parts.hostname, parts.port
    except ValueError:
        return address, None, None  # not an address: whoever uses it reports that


def connection_lines(home: Path | None = None) -> list[str]:
    """Shell lines with which another machine reaches the cluster that runs here: SECRETS.

    Raises:
        InputError: None runs here.
    """
    cluster = local_cluster(home)
    state = cluster.state
    if state is None:
        raise InputError(f"no cluster runs in {cluster.home}; start one: aiq cluster up")
    variables = cluster.client_environment(state)
    forwards = " ".join(
        f"-L {port}:127.0.0.1:{port}" for port in (state.ports["dashboard"], state.ports["mlflow"])
    )
    token = Path(variables["RAY_AUTH_TOKEN_PATH"]).read_text(encoding="utf-8")
    exported = {
        "RAY_API_SERVER_ADDRESS": variables["RAY_API_SERVER_ADDRESS"],
        "RAY_AUTH_TOKEN": token,
        **{name: variables[name] for name in _MLFLOW},
    }
    return [
        f"# Everything listens on 127.0.0.1: first a tunnel, ssh -N {forwards} USER@{platform.node()}",
        *(f"export {name}={shlex.quote(value)}" for name, value in exported.items()),
    ]
