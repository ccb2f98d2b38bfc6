"""Trials that fail, on real Ray: the exception, the memory and the hanging end that trial only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from aiq_search.search.runners.reasons import death_in
from aiq_search.study import Study, TrialState
from benchmarks.faults.networks import network

REPOSITORY = Path(__file__).parents[2]
# The preflight tries the first choice and the last, which are without a fault.
SPACE = """
schema_version: 1
name: faults
model: {name: "benchmarks.faults.networks:network", width: 4, pause: 0.05}
dataset: {name: digits, validation: 360, test: 360}
parameters:
  model.fault: {type: categorical, choices: [none, raise, memory, hang, "off"]}
  training.learning_rate: {type: float, low: 1e-2, high: 1e-1}
enqueue:
  - {model.fault: hang, training.learning_rate: 0.01}
  - {model.fault: raise, training.learning_rate: 0.01}
  - {model.fault: memory, training.learning_rate: 0.01}
  - {model.fault: none, training.learning_rate: 0.01}
  - {model.fault: none, training.learning_rate: 0.02}
search: {trials: 5, pruner: none, trial_minutes: 0.05, max_failed: 1.0}
training: {epochs: 3, batch_size: 200}
confirm: {finalists: 0, require_better_than_chance: false}
"""


def aiq(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    given = os.environ | {
        "AIQ_HOME": str(folder / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "AIQ_ALLOW_CODE": "benchmarks",
        **environment,
    }
    given.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "aiq_search", *arguments],
        cwd=folder,
        env=given,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def space(folder: Path, text: str = SPACE) -> str:
    (folder / "space.yaml").write_text(text)
    return str(folder / "space.yaml")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_each_failure_ends_its_own_trial_and_says_why(tmp_path: Path) -> None:
    said, _ = aiq(tmp_path, "search", space(tmp_path), "--study", "faults").communicate(timeout=280)
    records = Study.open("faults", tmp_path / "home").records()
    hung, raised, hungry, good, better = records
    assert [r.state for r in records] == [TrialState.FAIL] * 3 + [TrialState.COMPLETE] * 2, said
    assert hung.reason.startswith("took longer than search.trial_minutes = 0.05")
    assert raised.reason == "ValueError: the user's model has a bug"
    assert "_meet_fault" in raised.traceback
    assert hungry.reason.startswith("out of memory: RuntimeError: ")
    assert good.value != better.value
    assert "Traceback" not in said  # it is in the trial's run; the search has one line
    assert "the user's model has a bug" in said


SWELLING = """
schema_version: 1
name: faults
model: {name: "benchmarks.faults.networks:network", width: 4, pause: 0.05}
dataset: {name: digits, validation: 360, test: 360}
parameters:
  model.fault: {type: categorical, choices: [none, swell]}
enqueue: [{model.fault: swell}, {model.fault: none}]
search: {trials: 2, pruner: none, max_failed: 1.0, max_retries: 1, concurrency: 1}
training: {epochs: 2, batch_size: 200}
confirm: {finalists: 0, require_better_than_chance: false}
"""

# What a search may take before Ray ends a worker, and what its trial takes bit by bit, in bytes. Whatever
# else comes and goes on the machine meanwhile is less than the difference.
ALLOWED, SWELL = 5e9, 8e9


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_trial_that_uses_up_the_memory_is_ended_alone(tmp_path: Path) -> None:
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    total, used = get_system_memory(), get_used_memory()
    limit = used + ALLOWED
    if limit + SWELL > 0.95 * total:
        pytest.skip("too little memory is free")
    begun = aiq(
        tmp_path,
        "search",
        space(tmp_path, SWELLING),
        "--study",
        "faults",
        RAY_memory_usage_threshold=f"{limit / total:.4f}",
        RAY_memory_monitor_refresh_ms="100",
    )
    said, _ = begun.communicate(timeout=280)
    records = Study.open("faults", tmp_path / "home").records()
    assert len(records) == 2, said
    swollen, good = records
    assert swollen.state is TrialState.FAIL, said
    assert "out of memory: Ray ended the worker before the machine ran out" in swollen.reason
    assert good.state is TrialState.COMPLETE
    assert begun.returncode == 0
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_drains_and_the_search_goes_on_later(tmp_path: Path, number: int, code: int) -> None:
    long = SPACE.replace("[none, raise, memory, hang]", "[none]").partition("enqueue:")[0] + (
        "search: {trials: 4, pruner: none}\n"
        "training: {epochs: 60, batch_size: 200}\n"
        "confirm: {finalists: 0}\n"
    )
    process = aiq(tmp_path, "search", space(tmp_path, long), "--study", "faults")
    journal = tmp_path / "home" / "studies" / "faults" / "study.journal"
    while process.poll() is None and (not journal.is_file() or b"intermediate" not in journal.read_bytes()):
        time.sleep(0.1)
    begun = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert time.monotonic() - begun < 60
    assert "aiq resume faults" in said
    records = Study.open("faults", tmp_path / "home").records()
    assert any(r.state is TrialState.RUNNING for r in records)
    assert list(journal.parent.glob("checkpoints/*.unfinished.safetensors"))


QUIET = """
schema_version: 1
name: faults
model: {name: "benchmarks.faults.networks:network", width: 4, pause: 0.05}
dataset: {name: digits, validation: 360, test: 360}
parameters:
  training.learning_rate: {type: float, low: 1e-2, high: 1e-1}
search: {trials: 200, pruner: none}
training: {epochs: 20, batch_size: 200}
confirm: {finalists: 0, require_better_than_chance: false}
"""


def wait_for_a_trial(process: subprocess.Popen[str], study: Path) -> None:
    """Wait until a trial of a search has ended."""
    journal = study / "study.journal"
    while process.poll() is None and (not journal.is_file() or b"aiq.end" not in journal.read_bytes()):
        time.sleep(0.1)


def the_sentence(output: str) -> str:
    """What a search says at its end; that is one line, and nothing else is raw."""
    assert "Traceback" not in output, output
    last = output.strip().splitlines()[-1]
    assert last.startswith("aiq: "), output
    return last


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_search_whose_control_store_dies_says_so_and_continues_later(tmp_path: Path) -> None:
    process = aiq(tmp_path, "search", space(tmp_path, QUIET), "--study", "faults")
    study = tmp_path / "home" / "studies" / "faults"
    wait_for_a_trial(process, study)
    children = psutil.Process(process.pid).children(recursive=True)
    [store] = [child for child in children if child.name() == "gcs_server"]
    store.kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "control store died or cannot be reached" in the_sentence(output)
    assert "`aiq resume faults`" in the_sentence(output)
    assert "Failed to connect to GCS" not in output  # Ray's own last words, a minute later
    _, alive = psutil.wait_procs(children, timeout=90)
    assert not alive
    records = Study.open("faults", tmp_path / "home").records()
    assert {record.state for record in records} <= {TrialState.COMPLETE, TrialState.RUNNING}


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_a_driver_that_is_killed_leaves_no_process_behind_for_long(tmp_path: Path) -> None:
    process = aiq(tmp_path, "search", space(tmp_path, QUIET), "--study", "faults")
    wait_for_a_trial(process, tmp_path / "home" / "studies" / "faults")
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=90)
    assert not alive


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runner", ["ray", "in_process"])
def test_a_disk_that_fills_up_ends_the_search_in_seconds_and_it_continues_later(
    tmp_path: Path, small_disk: Path, runner: str
) -> None:
    place = {"AIQ_HOME": str(small_disk / "home"), "AIQ_RUNNER": runner}
    file = space(tmp_path, QUIET)
    process = aiq(tmp_path, "search", file, "--study", "faults", "--trials", "30", **place)
    wait_for_a_trial(process, small_disk / "home" / "studies" / "faults")
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file_:
        while True:
            file_.write(bytes(4096))
    begin = time.monotonic()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert time.monotonic() - begin < 60, output
    sentence = the_sentence(output)
    assert "the disk" in sentence
    assert "full" in sentence
    assert str(small_disk) in sentence
    assert "`aiq resume faults`" in sentence
    filler.unlink()
    process = aiq(tmp_path, "resume", "faults", "--trials", "3", **place)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


def test_what_ray_says_of_a_dead_worker_is_one_line() -> None:
    page = (
        "Failure # 1 (occurred at 2026-01-01)\n"
        "The actor died unexpectedly before finishing this task.\n\tpid: 7\n"
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit "
        "detail: Worker unexpectedly exits. End of file. Some common causes include: (1) the process …\n"
    )
    assert death_in(page) == (
        "the worker died: Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits. "
        "End of file."
    )
    raised = "Failure # 1 (occurred at 2026-01-01)\nray::train()\nImportError: no module\n"
    assert death_in(raised) == "the worker died: ImportError: no module"
    low = "1 worker(s) were killed due to the node running low on memory."
    assert death_in(low).startswith("out of memory: ")
    assert death_in("") == "the worker died: no message"


def test_the_networks_of_the_fault_tests_learn_and_fail_as_they_should() -> None:
    import torch

    assert network((1, 8, 8), 10, width=4)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(ValueError, match="the user's model has a bug"):
        network((4,), 2, width=2, fault="raise")(torch.zeros(2, 4))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        network((4,), 2, width=2, fault="memory")(torch.zeros(2, 4))
