"""The listener and its delivery process: real processes, ended by id."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aiq_search.errors import InputError
from aiq_search.tracking import MlflowListener, Outbox
from tests.tracking.conftest import Server, free_port, runs_of, wait_until
from tests.tracking.simulated import STUDY, SimulatedTrial, study_ended, study_started, trials, whole_study

ROOT = Path(__file__).parents[2]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def count_finished(store: str) -> int:
    return sum(r.info.status != "RUNNING" for k, r in runs_of(store).items() if k != STUDY)


@pytest.mark.slow
def test_a_study_arrives_and_the_process_ends(study_directory: Path, store: str) -> None:
    listener = MlflowListener(study_directory, store)
    for event in whole_study(6):
        listener.on_event(event)
    pid = listener.process_id
    assert pid is not None
    left = listener.close(60)
    assert not left, str(left)
    assert len(runs_of(store)) == 1 + 6 + 6
    assert not is_alive(pid)
    assert not listener.close()


@pytest.mark.slow
def test_an_event_takes_less_than_a_millisecond(study_directory: Path, store: str) -> None:
    listener = MlflowListener(study_directory, store)
    events = list(whole_study(60))
    listener.on_event(events[0])
    times = []
    for event in events[1:]:
        begun = time.perf_counter()
        listener.on_event(event)
        times.append(time.perf_counter() - begun)
    listener.close(0)
    assert sorted(times)[len(times) // 2] < 1e-3


@pytest.mark.slow
def test_the_driver_s_process_does_not_import_mlflow(tmp_path: Path, store: str) -> None:
    code = (
        "import sys; from pathlib import Path; from aiq_search.tracking import MlflowListener\n"
        f"MlflowListener(Path({str(tmp_path / 's')!r}), {store!r})\n"
        "assert not {'mlflow', 'ray', 'plotly'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_a_killed_delivery_process_is_replaced_and_doubles_nothing(study_directory: Path, store: str) -> None:
    listener = MlflowListener(study_directory, store)
    listener.on_event(study_started())
    made = trials(60)
    started = time.monotonic()
    killed = []
    for trial in made:
        for event in trial.events():
            listener.on_event(event)
        time.sleep(0.1)
        while not runs_of(store) and time.monotonic() < started + 60:  # MLflow is being imported
            time.sleep(0.1)
        pid = listener.process_id
        arrived = len(runs_of(store))
        if pid and pid not in killed and arrived > 5 * (1 + len(killed)) and len(killed) < 3:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    listener.on_event(study_ended(made))
    left = listener.close(90)
    assert killed
    assert not left, str(left)
    runs = runs_of(store)
    assert len(runs) == 1 + 60
    assert not [k for k, r in runs.items() if r.info.status == "RUNNING"]
    for trial in made:
        assert runs[str(trial.key)].data.metrics == pytest.approx(trial.ended().metrics)


@pytest.mark.slow
def test_a_killed_driver_leaves_nothing_behind(study_directory: Path, store: str) -> None:
    command = [sys.executable, "-m", "tests.tracking.driver", str(study_directory), store, "100", "0.3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as driver:
        assert driver.stdout
        for line in driver.stdout:
            number, pid = line.split()
            if int(number) >= 10 and count_finished(store) >= 5:
                driver.kill()
                break
    wait_until(lambda: not is_alive(int(pid)), 40)
    box = Outbox(study_directory)
    assert not box.undelivered().waiting
    told = {x.owner for x in box.history()}
    box.close()
    runs = runs_of(store)
    assert set(runs) == told
    assert not [k for k, r in runs.items() if r.info.status == "RUNNING"]
    assert "aiq resume" in runs[STUDY].data.tags["aiq.reason"]


@pytest.mark.slow
def test_a_server_that_goes_and_comes_back_misses_nothing(study_directory: Path, server: Server) -> None:
    listener = MlflowListener(study_directory, server.url)
    listener.on_event(study_started())
    made = trials(40)
    for number, trial in enumerate(made):
        if number == 10:
            wait_until(lambda: count_finished(server.url) >= 5, 60)
            server.stop()
        if number == 25:
            server.start()
        for event in trial.events():
            listener.on_event(event)
        time.sleep(0.1)
    listener.on_event(study_ended(made))
    left = listener.close(90)
    assert not left, str(left)
    runs = runs_of(server.url)
    assert len(runs) == 1 + 40
    assert runs[STUDY].info.status == "FINISHED"
    for trial in made:
        assert runs[str(trial.key)].data.metrics == pytest.approx(trial.ended().metrics)


@pytest.mark.slow
def test_a_server_that_never_was_is_said_at_the_end_and_the_next_driver_delivers(
    study_directory: Path, store: str
) -> None:
    url = f"http://ada:lovelace@127.0.0.1:{free_port()}"
    listener = MlflowListener(study_directory, url)
    for event in whole_study(3):
        listener.on_event(event)
    wait_until(lambda: listener.outbox.fact("error") is not None, 60)
    begun = time.monotonic()
    left = listener.close(3)
    assert time.monotonic() - begun < 6
    assert left.trials == 9
    assert left.error
    for file in study_directory.iterdir():
        assert b"lovelace" not in file.read_bytes(), file
    again = MlflowListener(study_directory, store)
    again.on_event(study_started(resumed=True, time=9e9))
    again.on_event(study_ended(trials(3), time=9.1e9))
    assert not again.close(60)
    assert len(runs_of(store)) == 1 + 3 + 6


@pytest.mark.slow
def test_a_driver_that_dies_while_mlflow_is_down_leaves_no_process(study_directory: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "tests.tracking.driver", str(study_directory), url, "100", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as driver:
        assert driver.stdout
        pid = int(driver.stdout.readline().split()[1])
        driver.kill()
    wait_until(lambda: not is_alive(pid), 60)


def test_a_full_disk_does_not_disturb_the_study(
    study_directory: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = MlflowListener(study_directory, store)
    monkeypatch.setattr(listener, "_keep_delivering", lambda: None)
    put = listener.outbox.put

    def full(*_: Any) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(listener.outbox, "put", full)
    trial = SimulatedTrial(0)
    for event in trial.events()[:5]:
        listener.on_event(event)
    assert listener.outbox.waiting() == []
    monkeypatch.setattr(listener.outbox, "put", put)
    for event in trial.events()[5:]:
        listener.on_event(event)
    assert [x.event for x in listener.outbox.waiting()] == trial.events()
    assert listener.close(0).waiting == 12


def test_a_folder_store_is_refused_before_anything_is_made(study_directory: Path) -> None:
    with pytest.raises(InputError, match="must be a server"):
        MlflowListener(study_directory, "./mlruns")
    assert not study_directory.exists()


@pytest.mark.slow
def test_what_mlflow_takes_slowly_is_waited_for_unless_the_user_is_in_a_hurry(
    study_directory: Path, store: str
) -> None:
    hurried = MlflowListener(study_directory, store)
    for event in whole_study(3):
        hurried.on_event(event)
    assert hurried.close(60, hurried=lambda: True)
    # The process that delivers takes longer than this to start.
    assert not MlflowListener(study_directory, store).close(0.1, at_work=120)
