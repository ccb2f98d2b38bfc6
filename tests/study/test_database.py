"""A study in a real PostgreSQL: locked there, and waited for while it restarts."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, PendingRollbackError

from aiq_search.errors import StudyError
from aiq_search.search.driver import StudyDriver
from aiq_search.study import Phase, Study, TrialState, database
from aiq_search.study.database import PatientStorage
from aiq_search.study.lock import DatabaseLock
from tests.search.simulation import DATASET, finish, new_study, run, simulated_space

psutil = pytest.importorskip("psutil")


def stored(home, server, name, **edits):
    return Study.create(home, simulated_space(**edits), DATASET, name, trials_url=server.get_uri())


def kill(server):
    process = psutil.Process(server.get_pid())
    process.kill()
    process.wait(30)


pytestmark = pytest.mark.slow


def test_a_second_holder_is_refused_with_the_first_one_named(server):
    first, second = (PatientStorage(server.get_uri()) for _ in range(2))
    with DatabaseLock(first.engine, "a"):
        with (
            pytest.raises(StudyError, match=f"aiq process {os.getpid()} on"),
            DatabaseLock(second.engine, "a"),
        ):
            pass
        with DatabaseLock(second.engine, "b"):  # other studies are not in the way
            pass
    with DatabaseLock(second.engine, "a"):
        pass


def test_a_connection_that_is_replaced_unseen_brings_the_lock_with_it(server):
    ours, theirs = (PatientStorage(server.get_uri()) for _ in range(2))
    with DatabaseLock(ours.engine, "c"):
        kill(server)
        server.ensure_postgres_running()
        ours.get_all_studies()  # finds the connection broken and opens another one, without an error
        with pytest.raises(StudyError, match="another driver"), DatabaseLock(theirs.engine, "c"):
            pass


def test_nothing_is_written_once_another_driver_was_faster_after_a_restart(server, tmp_path):
    study = stored(tmp_path, server, "faster")
    other = PatientStorage(server.get_uri())
    with study.held():
        driver = StudyDriver(study)
        driver.begin()
        kill(server)
        server.ensure_postgres_running()
        with DatabaseLock(other.engine, "faster"):
            for _ in range(2):  # not a second time either
                with pytest.raises(StudyError, match="another driver"):
                    driver.next_assignment()
    assert Study.open("faster", tmp_path).records() == []


def test_a_broken_connection_that_the_server_still_believes_in_is_not_another_driver(server):
    storage = PatientStorage(server.get_uri())
    with DatabaseLock(storage.engine, "d"):
        lost = storage.engine.connect()
        lost.detach()  # the network is gone: the server goes on to see a session with the lock
        storage.get_all_studies()
        with pytest.raises(OperationalError):
            lost.execute(sqlalchemy.text("SELECT 1"))


def test_a_search_goes_on_after_each_restart(server, tmp_path):
    study = stored(tmp_path, server, "restarted", search={"trials": 6}, confirm={"finalists": 0})
    reports = 0

    def change(assignment, epoch, report):
        nonlocal reports
        reports += 1
        if reports % 10 == 0:
            kill(server)
            threading.Timer(0.5, server.ensure_postgres_running).start()
        return report

    with study.held():
        driver = StudyDriver(study)
        driver.begin()
        run(driver, change=change)
        driver.end()
    records = Study.open("restarted", tmp_path).records()
    assert [record.state for record in records] == [TrialState.COMPLETE] * 6


def test_a_database_that_stays_away_is_given_up_in_the_end(server, tmp_path, monkeypatch):
    study = stored(tmp_path, server, "away")
    monkeypatch.setattr(study.storage, "_patience", 0.5)
    kill(server)
    begun = time.monotonic()
    with pytest.raises(Exception) as given_up:  # noqa: PT011 - Optuna's or SQLAlchemy's
        study.load(Phase.EXPLORE).ask()
    assert database._is_away(given_up.value) or isinstance(given_up.value, OperationalError)
    assert time.monotonic() - begun < 30
    server.ensure_postgres_running()


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (OperationalError("", {}, Exception()), True),
        (DatabaseError("", {}, Exception(), connection_invalidated=True), True),
        (PendingRollbackError(), True),
        (DatabaseError("", {}, Exception()), False),
        (IntegrityError("", {}, Exception()), False),
        (KeyError(), False),
    ],
)
def test_only_a_lost_connection_is_waited_for(error, away):
    wrapped = StorageInternalError()
    wrapped.__cause__ = error
    assert database._is_away(error) is away
    assert database._is_away(wrapped) is away


def test_a_database_that_is_not_there_is_a_sentence_at_once(tmp_path):
    begun = time.monotonic()
    with pytest.raises(StudyError, match="the study's storage cannot be opened"):
        Study.create(
            tmp_path,
            simulated_space(),
            DATASET,
            "none",
            trials_url="postgresql://ada@127.0.0.1:9/none",
        )
    assert time.monotonic() - begun < 10


def facts(study):
    return [(r.key.phase, r.key.number, r.params, r.seed, r.value, r.state) for r in study.records()]


@pytest.mark.parametrize("seed", range(2))
def test_a_study_whose_answers_are_lost_ends_as_if_they_had_not_been(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    edits = {
        "enqueue": [{"model.hidden1": 3, "model.hidden2": 3}, {"model.hidden1": 9, "model.hidden2": 5}],
        "search": {"trials": 8, "sampler": "tpe", "pruner": "asha"},
    }
    whole = new_study(tmp_path, "whole", **edits)
    finish(whole)
    chance, lost = random.Random(seed), 0

    def commit_and_break(connection):
        nonlocal lost
        if chance.random() < 0.5:
            lost += 1
            connection.connection.dbapi_connection.commit()
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    storage = PatientStorage(f"sqlite:///{tmp_path / 'lossy.db'}")
    sqlalchemy.event.listen(storage.engine, "commit", commit_and_break)
    monkeypatch.setattr("aiq_search.study.trials.open_storage", lambda url: storage)
    space = simulated_space(**edits)
    lossy = Study.create(tmp_path, space, DATASET, "lossy", trials_url="sqlite:///lossy")
    finish(lossy)
    assert facts(lossy) == facts(whole)
    assert lost > 50
    assert len(lossy.load(Phase.EXPLORE).trials) == len(whole.load(Phase.EXPLORE).trials)


def test_a_study_that_is_deleted_while_the_answer_is_lost_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    storage = PatientStorage(f"sqlite:///{tmp_path / 'a.db'}")
    number = storage.create_new_study([StudyDirection.MAXIMIZE], "a")
    losses = [True]

    def commit_and_break(connection):
        if losses:
            losses.pop()
            connection.connection.dbapi_connection.commit()
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    sqlalchemy.event.listen(storage.engine, "commit", commit_and_break)
    storage.delete_study(number)
    assert storage.get_all_studies() == []
    with pytest.raises(KeyError):
        storage.delete_study(number)
