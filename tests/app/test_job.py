"""The entry point of a job: real processes stand in for drivers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from aiq_search.app import job
from aiq_search.errors import StudyError
from aiq_search.space import load_space
from aiq_search.study import Study
from aiq_search.study.provenance import Provenance
from tests.search.simulation import DATASET

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"

# Notes that it was started, then dies as it was told to.
DRIVER = """
import os, pathlib, signal, sys, time
runs = pathlib.Path("runs")
assert os.environ["AIQ_JOB"] == "5b"
runs.write_text(runs.read_text() + "." if runs.exists() else ".")
{end}
"""
DOCUMENT = {
    "study": "a",
    "submission": "5b",
    "search": ["--trials", "3"],
    "resume": ["--trials", "4"],
    "versions": {},
}


@pytest.fixture
def supervise(tmp_path, monkeypatch):
    """Run the entry point over a driver: its exit code, and how often the driver was started."""
    monkeypatch.chdir(tmp_path)

    def run(end):
        monkeypatch.setattr(job, "command", lambda _: [sys.executable, "-c", DRIVER.format(end=end)])
        code = job.Supervisor(DOCUMENT).run()
        return code, len((tmp_path / "runs").read_text())

    return run


@pytest.mark.parametrize("code", [0, 1, 2, 3, 143])
def test_a_driver_that_ends_by_itself_is_not_started_again(supervise, code):
    assert supervise(f"sys.exit({code})") == (code, 1)


def test_a_killed_driver_is_started_again_and_may_succeed(supervise):
    assert supervise("len(runs.read_text()) < 3 and os.kill(os.getpid(), signal.SIGKILL)") == (0, 3)


def test_a_driver_that_is_always_killed_is_given_up(supervise, capsys):
    assert supervise("os.kill(os.getpid(), signal.SIGKILL)") == (137, 1 + job.RESTARTS)
    assert "the driver was killed by signal 9" in capsys.readouterr().err


@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "lambda *_: sys.exit(143)"])
def test_sigterm_reaches_the_driver_which_is_not_started_again(tmp_path, handler):
    end = f"signal.signal(signal.SIGTERM, {handler}); pathlib.Path('ready').touch(); time.sleep(600)"
    code = (
        "import signal, sys\nfrom aiq_search.app import job\n"
        f"job.command = lambda _: [sys.executable, '-c', {DRIVER.format(end=end)!r}]\n"
        f"supervisor = job.Supervisor({DOCUMENT!r})\nsignal.signal(signal.SIGTERM, supervisor.stop)\n"
        "sys.exit(supervisor.run())"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as entry:
        while not (tmp_path / "ready").exists():
            assert entry.poll() is None
            time.sleep(0.05)
        entry.send_signal(signal.SIGTERM)
        assert entry.wait(60) == 143
    assert (tmp_path / "runs").read_text() == "."


def test_a_study_is_begun_and_then_resumed(tmp_path, monkeypatch):
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    begun = ["search", "space.yaml", "--study", "a", "--trials", "3"]
    assert job.command(DOCUMENT)[3:] == begun
    write_study(tmp_path, DOCUMENT["submission"])
    assert job.command(DOCUMENT)[3:] == ["resume", "a", "--trials", "4"]


@pytest.mark.parametrize("begun_by", [None, "a", "another"])
def test_a_study_that_somebody_else_began_is_left_alone(tmp_path, monkeypatch, begun_by):
    """By a search on the cluster, by an older version's job, or by an earlier submission of that id."""
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    path = write_study(tmp_path, begun_by)
    before = path.read_bytes()
    with pytest.raises(StudyError, match=r"study a is on this cluster already.* --study") as refused:
        job.command(DOCUMENT)
    assert refused.value.exit_code == 2
    assert path.read_bytes() == before
    # `aiq resume` means whatever is there, whoever began it
    assert job.command({**DOCUMENT, "search": None})[3:] == ["resume", "a", "--trials", "4"]


def test_a_job_file_without_a_submission_goes_on_with_its_own_study(tmp_path, monkeypatch):
    """That of deploy/kubernetes is written by hand, and its retries are its own."""
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    by_hand = {name: value for name, value in DOCUMENT.items() if name != "submission"}
    write_study(tmp_path, "a")
    assert job.command(by_hand)[3] == "resume"
    write_study(tmp_path, None)
    with pytest.raises(StudyError):
        job.command(by_hand)


def write_study(home, begun_by):
    shutil.rmtree(home / "studies" / "a", ignore_errors=True)
    provenance = Provenance(command=("aiq",), versions={}, platform="", job=begun_by)
    study = Study.create(home, load_space(SPACE), DATASET, "a", provenance=provenance)
    return study.directory / "study.json"


def test_what_a_driver_leaves_that_died_while_it_made_the_study_is_cleared(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    monkeypatch.setenv("AIQ_STUDY_STORAGE", url)
    (tmp_path / "studies" / "a" / "checkpoints").mkdir(parents=True)
    for name in ("a", "another"):
        optuna.create_study(study_name=name, storage=url)
    assert job.command(DOCUMENT)[3] == "search"
    assert not (tmp_path / "studies" / "a").exists()
    assert optuna.get_all_study_names(url) == ["another"]


def test_trials_in_the_database_are_never_cleared(tmp_path, monkeypatch):
    """A lost AIQ_HOME leaves a study in the database that this head has only failed to begin."""
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    monkeypatch.setenv("AIQ_STUDY_STORAGE", url)
    (tmp_path / "studies" / "a").mkdir(parents=True)
    optuna.create_study(study_name="a", storage=url).ask()
    with pytest.raises(StudyError, match="has trials in the study database"):
        job.command(DOCUMENT)
    assert optuna.get_all_study_names(url) == ["a"]


def test_a_study_that_should_go_on_and_is_not_here_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIQ_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    document = {**DOCUMENT, "search": None, "versions": {"python": "2.7.18"}}
    with pytest.raises(StudyError):
        job.command(document)
    (tmp_path / "job.json").write_text(json.dumps(document))
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert job.main() == 2
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
            signal.signal(number, handler)
    said = capsys.readouterr().err
    assert "submit its file as a new study" in said
    assert "2.7.18 where the study was submitted" in said
    assert "AIQ_JOB" not in os.environ
