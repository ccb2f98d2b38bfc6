"""Workers and drivers that die: attempts are counted in the study, and nothing is asked for twice."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from aiq_search.search.driver import StudyDriver
from aiq_search.study import Phase, Study, TrialEnded, TrialStarted, TrialState
from aiq_search.study.record import ATTEMPTS, BEGIN
from tests.search.reports import report_of
from tests.search.simulation import Recorder, finish, key_of, new_study, run


def reopened(study: Study) -> Study:
    return Study.open(study.id, study.directory.parent.parent)


def begun(study, listeners=()):
    driver = StudyDriver(study, listeners)
    driver.begin()
    return driver


def test_a_trial_whose_worker_died_is_taken_up_again_under_its_number(tmp_path):
    heard = Recorder()
    driver = begun(new_study(tmp_path), [heard])
    first = driver.next_assignment()
    driver.died(key_of(first), "the worker died: signal 9")
    again = driver.next_assignment()
    assert again == first
    assert [event.resumed for event in heard.of(TrialStarted)] == [False, True]


def test_a_trial_fails_once_its_worker_died_more_often_than_max_retries(tmp_path):
    heard = Recorder()
    driver = begun(new_study(tmp_path, search={"max_retries": 2}), [heard])
    key = key_of(driver.next_assignment())
    for _ in range(2):
        driver.died(key, "the worker died: signal 9")
        assert key_of(driver.next_assignment()) == key
    driver.died(key, "the worker died: signal 9")
    [ended] = heard.of(TrialEnded)
    assert ended.state is TrialState.FAIL
    assert ended.reason.startswith("begun 3 times, and search.max_retries = 2: the worker died: signal 9")
    assert key_of(driver.next_assignment()) != key


def test_deaths_of_drivers_count_like_those_of_workers(tmp_path):
    study = new_study(tmp_path, search={"max_retries": 1})
    key = key_of(begun(study).next_assignment())  # and this driver is gone
    assert key_of(begun(reopened(study)).next_assignment()) == key
    third = begun(reopened(study))
    assert key_of(third.next_assignment()) != key
    assert third.study.record(Phase.EXPLORE, 0).state is TrialState.FAIL


def test_being_put_aside_in_good_order_is_no_death(tmp_path):
    study = new_study(tmp_path, search={"max_retries": 0})
    for _ in range(5):
        driver = begun(reopened(study))
        key = key_of(driver.next_assignment())
        driver.pause(key)
        assert key.number == 0
    frozen = reopened(study).load(Phase.EXPLORE).trials[0]
    assert frozen.user_attrs[ATTEMPTS] == 0
    assert frozen.state is OptunaState.RUNNING


def test_a_trial_that_draining_did_not_wait_for_is_no_death_either(tmp_path):
    study = new_study(tmp_path, search={"max_retries": 0})
    driver = begun(study)
    key = key_of(driver.next_assignment())
    driver.draining = True
    driver.end()
    assert key_of(begun(reopened(study)).next_assignment()) == key


def test_a_driver_killed_while_it_asked_leaves_no_empty_trial(tmp_path):
    left, whole = new_study(tmp_path, "left"), new_study(tmp_path, "whole")
    begun(left)
    left.load(Phase.EXPLORE).ask()  # killed before it drew a configuration
    heard = Recorder()
    driver = begun(reopened(left), [heard])
    taken_up = driver.next_assignment()
    expected = begun(whole).next_assignment()
    assert taken_up.architecture == expected.architecture
    assert taken_up.seed == expected.seed
    run_and_end(driver, taken_up)
    assert all(BEGIN in trial.user_attrs for trial in reopened(left).load(Phase.EXPLORE).trials)


def run_and_end(driver, assignment):
    for epoch in range(1, 5):
        driver.report(key_of(assignment), report_of(assignment, epoch))
    run(driver)
    driver.end()


def test_an_answer_that_was_cut_off_is_given_again_and_not_trained(tmp_path):
    study = new_study(
        tmp_path,
        enqueue=[{"model.hidden1": 4, "model.hidden2": 4}, {"model.hidden1": 4, "model.hidden2": 4}],
        search={"trials": 2},
        confirm={"finalists": 0},
    )
    driver = begun(study)
    assignment = driver.next_assignment()
    for epoch in range(1, 5):
        driver.report(key_of(assignment), report_of(assignment, epoch))
    trial = study.load(Phase.EXPLORE, optuna.samplers.RandomSampler(0)).ask()
    params = study.space.suggest(trial)
    known = study.record(Phase.EXPLORE, 0)
    trial.set_user_attr(
        BEGIN, {"params": params, "seed": 1, "config_hash": known.config_hash, "copied_from": 0}
    )
    again = begun(reopened(study))
    assert again.next_assignment() is None
    assert again.finished
    assert again.study.record(Phase.EXPLORE, 1).value == known.value


def test_a_full_disk_stops_the_study_and_keeps_the_trial(tmp_path):
    study = new_study(tmp_path)
    driver = begun(study)
    key = key_of(driver.next_assignment())
    driver.halt(key, "the disk is full where the study is: free some space")
    assert driver.draining
    assert driver.message.endswith("then continue with `aiq resume study`")
    assert study.record(Phase.EXPLORE, 0).state is TrialState.RUNNING


@pytest.mark.parametrize("stop_after", range(1, 40, 3))
def test_a_study_killed_anywhere_ends_as_if_it_had_not_been(tmp_path, stop_after):
    whole = new_study(tmp_path, "whole")
    finish(whole)
    killed = new_study(tmp_path, "killed")
    run(begun(killed), stop_after=stop_after)
    finish(reopened(killed))

    def facts(study):
        return [(r.key.phase, r.key.number, r.params, r.seed, r.value, r.state) for r in study.records()]

    assert facts(killed) == facts(whole)
