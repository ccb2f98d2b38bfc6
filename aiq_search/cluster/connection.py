"""Connecting to Ray, with token authentication always on."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiq_search.cluster.scratch import check_scratch, make_scratch
from aiq_search.errors import AiqError, InputError, first_line

__all__ = ["LOOPBACK", "check_address", "connected", "ensure_token"]

# Ray's word for "no other node will join", which Windows and macOS have by default: every port, the internal
# ones too, is on 127.0.0.1 then. Read once, when Ray is imported.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

# Addresses that mean a cluster of this machine alone, started for one search.
_HERE = (None, "local")


def check_address(address: str | None) -> None:
    """Raise InputError for an address that a search cannot be driven through.

    Or, without an address, where Ray's sockets fit into no folder of this machine.
    """
    if address in _HERE:
        check_scratch()
    if address is not None and address.startswith(("ray://", "http://", "https://")):
        raise InputError(
            f"--address {address}: a search is driven from a node of the cluster, not over the network; "
            "submit it as a job instead: aiq submit FILE."
        )


def ensure_token(home: Path) -> None:
    """Turn Ray's token authentication on, with a token of our own unless the user has one.

    Where other nodes may join, Ray's internal ports listen on every interface, and other users of this
    machine reach 127.0.0.1; the token is what keeps strangers out. It is in AIQ_HOME, readable by its
    owner alone.

    Args:
        home: AIQ_HOME.

    Raises:
        AiqError: Ray is imported already, without authentication.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token" and "ray" in sys.modules:
        raise AiqError(
            "Ray was imported before its token authentication was turned on, and reads that only once: "
            "set RAY_AUTH_MODE=token in the environment, or call aiq_search before importing ray."
        )
    os.environ["RAY_AUTH_MODE"] = "token"
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = home.resolve() / "ray.token"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def _knock(address: str, then: str) -> None:
    """Raise AiqError where nothing listens: Ray itself would keep trying for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address {address}: expected host:port of a Ray head, or auto.")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise AiqError(
            f"Ray at {address} cannot be reached ({error}); start it there with `ray start --head`, or leave "
            f"--address and RAY_ADDRESS out to search on this machine; then {then}."
        ) from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the caller's signal handlers: Ray puts its own in their place, which end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)


def _unavailable(where: str, then: str, error: Exception) -> Exception:
    """The sentence for an error of ``ray.init``, or the error itself where that is a bug."""
    if type(error) is Exception:  # of a part of Ray that was not ready in the 30 s that Ray allows it
        return AiqError(
            f"{where} in time: the machine is too busy or short of memory. Close other programs, then {then}."
        )
    if not isinstance(error, ConnectionError | RuntimeError | ValueError | OSError):
        return error
    return AiqError(f"{where}: {first_line(error).rstrip('.')}. Fix that, then {then}.")


@contextmanager
def connected(home: Path, address: str | None = None, study: str | None = None) -> Iterator[None]:
    """Be connected to a Ray cluster while the context lasts.

    Args:
        home: AIQ_HOME.
        address: A cluster that this machine is a node of, as host:port or ``auto``; by default one is
            started on this machine and stopped at the end.
        study: The study that is to be run, which an error says how to continue.

    Raises:
        InputError: The address cannot be used.
        AiqError: The cluster cannot be reached or started.
    """
    check_address(address)
    ensure_token(home)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    then = "try again" if study is None else f"continue with `aiq resume {study}`"
    if address in _HERE:
        with _started(then):
            yield
        return
    if address != "auto":
        _knock(str(address), then)
    with _joined(f"Ray at {address} cannot be reached", then, address=address):
        yield


@contextmanager
def _started(then: str) -> Iterator[None]:
    """Be connected to a cluster of this machine alone, which is started and stopped."""
    os.environ |= LOOPBACK
    scratch = make_scratch()
    with _joined(
        f"Ray cannot be started on this machine (its logs are in {scratch})",
        then,
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        _temp_dir=str(scratch),
    ):
        yield
    shutil.rmtree(scratch.parent, ignore_errors=True)  # after an error its logs may say more


@contextmanager
def _joined(where: str, then: str, **options: Any) -> Iterator[None]:  # noqa: ANN401
    """Be connected to the cluster of Ray's options; ``where`` begins the sentence for one that cannot be."""
    import ray

    try:
        with _own_signals():
            ray.init(configure_logging=False, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        raise _unavailable(where, then, error) from None
    try:
        yield
    finally:
        ray.shutdown()
