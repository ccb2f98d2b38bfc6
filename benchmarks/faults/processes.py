"""Processes that a fault test starts, and ends by their id."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from aiq_search.errors import StudyError
from aiq_search.study import Study, TrialRecord
from benchmarks.faults.launching import REPOSITORY, Forked, Process, start

__all__ = ["Driver", "MlflowServer", "Scene", "free_port", "wait_for"]

# A start under load imports torch, and may make MLflow's tables.
PATIENCE = 240.0

# Ray names a worker after its class or after the one that Tune wraps around it; names are cut to 15 letters.
_WORKERS = ("ray::TrainingTr", "ray::ResourceTr")


def wait_for(holds: Callable[[], object], seconds: float = PATIENCE, what: str = "it") -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: It did not.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Scene:
    """A folder with one search space and one study: where a fault happens.

    Args:
        folder: Empty; everything is written below it.
        space: The space file's text.
        real: Train for real, on Ray; otherwise training is simulated.
        home: AIQ_HOME, by default in the folder.
        storage: URL of a database for the study.
        tracking_uri: MLflow's store, by default a file in the folder.
        address: A Ray cluster.
    """

    study_id = "faults"

    def __init__(
        self,
        folder: Path,
        space: str,
        *,
        real: bool,
        home: Path | None = None,
        storage: str | None = None,
        tracking_uri: str | None = None,
        address: str | None = None,
    ) -> None:
        self.folder = folder
        self.home = home or folder / "home"
        self.real = real
        self.tracking_uri = tracking_uri or f"sqlite:///{folder / 'mlflow.db'}"
        self.drivers: list[Driver] = []
        self.space = folder / "space.yaml"
        self.space.write_text(space, encoding="utf-8")
        self._more = [] if storage is None else ["--study-storage", storage]
        self._address = [] if address is None else ["--address", address]

    @property
    def study(self) -> Study:
        """The study as it is on disk now."""
        return Study.open(self.study_id, self.home)

    def records(self) -> list[TrialRecord]:
        """The study's trials; none while it does not exist."""
        try:
            return self.study.records()
        except (StudyError, KeyError):
            return []

    def start(self, environment: Mapping[str, str] | None = None) -> Driver:
        """Start the search, or resume it if it has begun."""
        begun = (self.home / "studies" / self.study_id / "study.json").is_file()
        if begun:
            arguments = ["resume", self.study_id, *self._address]
        else:
            arguments = ["search", str(self.space), "--study", self.study_id, *self._more, *self._address]
        return self.run(arguments, environment)

    def run(self, arguments: list[str], environment: Mapping[str, str] | None = None) -> Driver:
        """Start ``aiq``."""
        module = "aiq_search" if self.real else "benchmarks.faults.simulated"
        self.drivers.append(Driver(module, arguments, self, environment or {}))
        return self.drivers[-1]


class Driver:
    """A running ``aiq``."""

    def __init__(
        self, module: str, arguments: list[str], scene: Scene, environment: Mapping[str, str]
    ) -> None:
        self._scene = scene
        self._before = _steps(scene)
        self._log = scene.folder / f"driver-{time.time():.3f}.log"
        given = {
            "AIQ_HOME": str(scene.home),
            "MLFLOW_TRACKING_URI": scene.tracking_uri,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "AIQ_ALLOW_CODE": "benchmarks",
            **environment,
        }
        if scene.real or "LD_PRELOAD" in given:
            self.process: Process = start(module, arguments, given, scene.folder, self._log)
        else:
            self.process = Forked(module, arguments, given, scene.folder, self._log)

    @property
    def said(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace")

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def get_going(self, chance: random.Random, longest: float) -> None:
        """Wait until it trains, and then for a random time."""

        def trains() -> bool:
            return _steps(self._scene) > self._before and bool(self._scene.records())

        wait_for(lambda: self.over or trains(), what="a step")
        self.pause(chance, longest)

    def take_a_step(self, chance: random.Random, longest: float) -> None:
        """Wait until it has trained since now, and then for a random time."""
        self._before = _steps(self._scene)
        self.get_going(chance, longest)

    def pause(self, chance: random.Random, longest: float) -> None:
        """Wait for a random time, or until it has ended."""
        until = time.monotonic() + chance.uniform(0, longest)
        while time.monotonic() < until and not self.over:
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as the kernel would: no handler runs."""
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[psutil.Process]:
        """Its Ray workers that train."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        found = []
        for process in below:
            try:
                if process.name().startswith(_WORKERS):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def finish(self) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"the search did not come to an end; it said:\n{self.said}") from None


def _steps(scene: Scene) -> int:
    """A number that grows with the study: bytes of its journal, or else trials in its database."""
    folder = scene.home / "studies" / scene.study_id
    journal = folder / "study.journal"
    if journal.is_file():
        return journal.stat().st_size
    outbox = folder / "outbox.sqlite-wal"
    return outbox.stat().st_mtime_ns if outbox.is_file() else 0


class MlflowServer:
    """An MLflow server on a SQLite file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it; does not wait for an answer."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        given = os.environ | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONPATH": str(REPOSITORY),
            "AIQ_ALLOW_CODE": "benchmarks",
        }
        given["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # as aiq's own servers
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(command, env=given, stdout=log, stderr=log)

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):  # noqa: S310 - ours
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """End it and its workers, each by its id."""
        if self._process is None:
            return
        below = psutil.Process(self._process.pid).children(recursive=True)
        for process in (self._process, *below):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()
        self._process = None


def empty_store(folder: Path) -> Path:
    """A SQLite file with MLflow's tables, to be copied: making them takes seconds."""
    path = folder / "empty.db"
    code = f"import mlflow; mlflow.MlflowClient('sqlite:///{path}').search_experiments()"
    given = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=given, cwd=folder)
    return path


def copy_store(empty: Path, *places: Path) -> None:
    """Put a copy of the empty store where a row wants one."""
    for place in places:
        shutil.copy(empty, place)
