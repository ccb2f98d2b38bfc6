"""A configuration asked for again while it is in training waits for the result, whatever happens to it."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState as OptunaState

from aiq_search.search.driver import StudyDriver
from aiq_search.study import Phase, Study, TrialState
from aiq_search.worker import Report
from tests.search.reports import report_of
from tests.search.simulation import finish, key_of, new_study, run

TINY = {"type": "int", "low": 2, "high": 3}


def tiny_study(home, trials=12, name="study"):
    parameters = {"model.hidden1": TINY, "model.hidden2": TINY}
    return new_study(home, name, parameters=parameters, search={"trials": trials}, confirm={"finalists": 0})


def twins(home, trials=2):
    """A study that is asked twice for the same network at first."""
    point = {"model.hidden1": 4, "model.hidden2": 4}
    study = new_study(home, search={"trials": trials}, confirm={"finalists": 0})
    for _ in range(2):
        study.load(Phase.EXPLORE).enqueue_trial(study.space.encode(point))
    return study


def begun(study):
    driver = StudyDriver(Study.open(study.id, study.directory.parent.parent))
    driver.begin()
    return driver


def train(driver, assignment):
    for epoch in range(1, 5):
        driver.report(key_of(assignment), report_of(assignment, epoch))


@pytest.mark.parametrize("concurrency", [2, 4])
def test_each_configuration_is_trained_once_however_many_train_at_once(tmp_path, concurrency):
    study = tiny_study(tmp_path)
    driver = begun(study)
    trained = run(driver, concurrency=concurrency)
    records = study.records(Phase.EXPLORE)
    assert len(records) == 12
    assert len(trained) == len({r.config_hash for r in records}) == 4
    assert driver.finished


def test_what_waits_counts_in_the_budget_and_ends_the_exploring_with_its_answer(tmp_path):
    study = twins(tmp_path)
    driver = begun(study)
    first = driver.next_assignment()
    assert driver.next_assignment() is None
    assert not driver.finished
    train(driver, first)
    assert driver.next_assignment() is None
    assert driver.finished
    one, two = study.records(Phase.EXPLORE)
    assert (two.copied_from, two.value) == (0, one.value)
    assert all(trial.state.is_finished() for trial in study.load(Phase.EXPLORE).trials)


def test_where_the_first_fails_the_second_is_trained_with_its_own_seed(tmp_path):
    study = twins(tmp_path)
    driver = begun(study)
    first = driver.next_assignment()
    assert driver.next_assignment() is None
    driver.report(key_of(first), Report(done=True, reason="bad luck"))
    second = driver.next_assignment()
    assert key_of(second).number == 1
    assert second.seed != first.seed
    train(driver, second)
    one, two = study.records(Phase.EXPLORE)
    assert (one.state, two.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert two.copied_from is None


def test_what_waits_survives_the_death_of_the_driver(tmp_path):
    study = twins(tmp_path)
    killed = begun(study)
    first = killed.next_assignment()
    assert killed.next_assignment() is None
    driver = begun(study)
    assert driver.next_assignment() == first
    assert driver.next_assignment() is None
    train(driver, first)
    assert driver.next_assignment() is None
    assert driver.finished
    assert [r.copied_from for r in study.records(Phase.EXPLORE)] == [None, 0]


def test_what_waits_survives_the_death_of_the_first_one_s_worker(tmp_path):
    driver = begun(twins(tmp_path))
    first = driver.next_assignment()
    assert driver.next_assignment() is None
    driver.died(key_of(first), "the worker died: signal 9")
    assert driver.next_assignment() == first
    assert driver.next_assignment() is None
    train(driver, first)
    assert driver.next_assignment() is None
    assert driver.finished


def test_a_driver_killed_between_asking_and_beginning_retrains_nothing_known(tmp_path):
    study = twins(tmp_path)
    killed = begun(study)
    train(killed, killed.next_assignment())
    trial = study.load(Phase.EXPLORE).ask()
    study.space.suggest(trial)
    driver = begun(study)
    assert driver.next_assignment() is None
    assert driver.finished
    assert [r.copied_from for r in study.records(Phase.EXPLORE)] == [None, 0]


@pytest.mark.parametrize("stop_after", range(1, 16, 2))
def test_parallel_duplicates_are_trained_once_wherever_the_driver_is_killed(tmp_path, stop_after):
    study = tiny_study(tmp_path)
    run(begun(study), concurrency=3, stop_after=stop_after)
    finish(Study.open(study.id, tmp_path), concurrency=3)
    records = study.records(Phase.EXPLORE)
    assert len(records) == 12
    assert sum(r.copied_from is None for r in records) == len({r.config_hash for r in records})
    assert all(t.state is OptunaState.COMPLETE for t in study.load(Phase.EXPLORE).trials)
