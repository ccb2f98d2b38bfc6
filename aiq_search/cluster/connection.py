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
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from aiq_search.cluster.ray_internals import WORKER_ENVIRONMENT, light_start
from aiq_search.cluster.scratch import check_scratch, make_scratch
from aiq_search.errors import AiqError, InputError, first_line

__all__ = ["LOOPBACK", "Connection", "check_address", "connected", "ensure_token"]

# Ray's word for "no other node will join", which Windows and macOS have by default: every port, the internal
# ones too, is on 127.0.0.1 then. Read once, when Ray is imported.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

# Name of the file with Ray's token, in AIQ_HOME.
_TOKEN_FILE = "ray.token"  # noqa: S105

# What every worker needs, and takes seconds to import.
_PRELOADED = ("aiq_search.worker.trainable", "aiq_search.worker.worker")

_SILENT: dict[str, Any] = {"configure_logging": False, "log_to_driver": False, "logging_level": logging.ERROR}

# How often a cluster of our own is started, if a part of it is late: Ray's own limits cannot be set, and what
# was read from the disk is in memory the next time.
_ATTEMPTS = 3

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
    path = home.resolve() / _TOKEN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(_new_token())
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


@cache
def _new_token() -> str:
    """One for this process: Ray remembers the first that it has read."""
    return secrets.token_hex(32)


def _forget_token(home: Path) -> None:
    """Remove a token that was made for a search that did not begin, with the folder made for it."""
    if not home.is_dir() or [each.name for each in home.iterdir()] != [_TOKEN_FILE]:
        return
    (home / _TOKEN_FILE).unlink()
    home.rmdir()
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)


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


def _was_late(error: Exception | None) -> bool:
    """Whether a part of Ray was not ready in the 15 or 30 s that Ray allows it."""
    return type(error) is Exception


def _unavailable(where: str, then: str, error: Exception) -> Exception:
    """The sentence for an error of ``ray.init``, or the error itself where that is a bug."""
    if _was_late(error):
        return AiqError(
            f"{where} in time: the machine is too busy or short of memory. Close other programs, then {then}."
        )
    if not isinstance(error, ConnectionError | RuntimeError | ValueError | OSError):
        return error
    return AiqError(f"{where}: {first_line(error).rstrip('.')}. Fix that, then {then}.")


class Connection:
    """Being connected to a Ray cluster: one that this machine is a node of, or one started for a search.

    A cluster of our own starts in the background: ``begin`` returns at once, and ``wait`` when it is there.
    It ends with the context, or with this process, however that ends.

    Args:
        home: AIQ_HOME.
        address: A cluster that this machine is a node of, as host:port or ``auto``; by default one is
            started on this machine and stopped at the end.

    Attributes:
        dashboard: Address of Ray's dashboard, once connected; a cluster of our own has none.
    """

    def __init__(self, home: Path, address: str | None = None) -> None:
        self.dashboard: str | None = None
        self._home = home
        self._address = address
        self._local: _LocalRay | None = None
        self._joined = ExitStack()
        self._made_home = not home.exists()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; a cluster of our own ends. After a mistake of the user nothing of it is left."""
        mistake = isinstance(error, InputError)
        if self._local is not None:
            self._local.stop(keep_logs=error is not None and not mistake)
            self._local = None
        self._joined.close()
        if mistake and self._made_home:
            _forget_token(self._home)

    @property
    def own(self) -> bool:
        """Whether the cluster is started for a search, and ends with it."""
        return self._address in _HERE

    def begin(self) -> None:
        """Start a cluster of our own, unless one is named; does nothing the second time.

        Raises:
            AiqError: Ray is imported already, without authentication.
        """
        if not self.own or self._local is not None:
            return
        _set_up(self._home)
        os.environ |= LOOPBACK | WORKER_ENVIRONMENT
        self._local = _LocalRay(make_scratch())

    def wait(self, study: str | None = None) -> None:
        """Return once connected.

        Args:
            study: The study that is to be run, which an error says how to continue.

        Raises:
            InputError: The address cannot be used.
            AiqError: The cluster cannot be reached or started.
        """
        check_address(self._address)
        then = "try again" if study is None else f"continue with `aiq resume {study}`"
        self.begin()
        if self._local is not None:
            self._local.wait(then)
            return
        _set_up(self._home)
        if self._address != "auto":
            _knock(str(self._address), then)
        dashboard = self._joined.enter_context(_joined(str(self._address), then))
        self.dashboard = f"http://{dashboard}" if dashboard else None


@contextmanager
def connected(home: Path, address: str | None = None, study: str | None = None) -> Iterator[None]:
    """Be connected to a Ray cluster while the context lasts; see ``Connection``.

    Raises:
        InputError: The address cannot be used.
        AiqError: The cluster cannot be reached or started.
    """
    with Connection(home, address) as connection:
        connection.wait(study)
        yield


def _set_up(home: Path) -> None:
    ensure_token(home)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class _LocalRay:
    """A Ray cluster of this machine alone, which a thread starts and stops.

    The thread lives as long as the cluster: the kernel ends Ray's processes with the thread that started
    them.

    Args:
        scratch: Folder of its sockets and logs; removed at the end.
    """

    def __init__(self, scratch: Path) -> None:
        import ray  # here, so that no two threads import it

        self._ray = ray
        self._scratch = scratch
        self._ready = threading.Event()
        self._over = threading.Event()
        self._start()

    def _start(self) -> None:
        self._ready.clear()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="local-ray")
        self._thread.start()

    def wait(self, then: str) -> None:
        """Return once it runs.

        Raises:
            AiqError: It cannot be started.
        """
        self._ready.wait()
        for _ in range(_ATTEMPTS - 1):
            if not _was_late(self._error):
                break
            self._thread.join()
            self._start()
            self._ready.wait()
        if self._error is not None:
            where = f"Ray cannot be started on this machine (its logs are in {self._scratch})"
            raise _unavailable(where, then, self._error) from None

    def stop(self, *, keep_logs: bool) -> None:
        """Stop it, once it has started."""
        self._over.set()
        self._thread.join()
        if not keep_logs:
            shutil.rmtree(self._scratch.parent, ignore_errors=True)

    def _run(self) -> None:
        try:
            # It says that it leaves the signals alone in a thread, which is as we want it.
            with light_start(_PRELOADED), _quiet(logging.getLogger("ray._private.worker")):
                self._ray.init(
                    address="local",
                    num_cpus=len(os.sched_getaffinity(0)),
                    include_dashboard=False,
                    _temp_dir=str(self._scratch),
                    **_SILENT,
                )
        except Exception as error:
            self._error = error
            self._ready.set()
            return
        self._ready.set()
        self._over.wait()
        self._ray.shutdown()


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep a logger's warnings to itself."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _joined(address: str, then: str) -> Iterator[str | None]:
    """Be connected to a cluster that runs; yields host and port of its dashboard, if it has one."""
    import ray

    try:
        with _own_signals():
            context = ray.init(address=address, **_SILENT)
    except Exception as error:
        raise _unavailable(f"Ray at {address} cannot be reached", then, error) from None
    try:
        yield context.dashboard_url or None
    finally:
        ray.shutdown()
