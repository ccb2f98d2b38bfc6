"""Failed trials run again: a new number, the old configuration and seed, and no second count."""

from __future__ import annotations

import pytest

from aiq_search.app.edit import retry_failed
from aiq_search.errors import InputError
from aiq_search.search.driver import StudyDriver
from aiq_search.study import Phase, PhaseStarted, Study, TrialKey, TrialStarted, TrialState
from aiq_search.worker import Report
from tests.search.simulation import Recorder, finish, new_study, run


def failing(*numbers, phase=Phase.EXPLORE):
    """Let these trials of a phase fail."""

    def change(assignment, epoch, report):
        key = TrialKey.parse(assignment.key)
        broken = key.phase is phase and key.number in numbers
        return Report(done=True, reason="ValueError: a bug", traceback="…") if broken else report

    return change


def again(study: Study) -> Study:
    return Study.open(study.directory.parent.parent, study.id)


def finished_with_failures(home, **edits):
    study = new_study(home, **edits)
    driver = StudyDriver(study)
    driver.begin()
    run(driver, change=failing(1, 4))
    driver.end()
    return again(study)


def test_each_failed_trial_runs_again_with_its_configuration_and_seed(tmp_path):
    study = finished_with_failures(tmp_path)
    assert study.queue_failed() == 2
    finish(again(study))
    records = {r.key.number: r for r in again(study).records(Phase.EXPLORE)}
    assert len(records) == 12 + 2
    for old, new in ((1, 12), (4, 13)):
        assert records[old].state is TrialState.FAIL
        assert records[new].state is TrialState.COMPLETE
        assert records[new].retry_of == old
        assert (records[new].params, records[new].seed) == (records[old].params, records[old].seed)


def test_a_study_whose_failures_were_run_again_ends_as_if_none_had_failed(tmp_path):
    study = finished_with_failures(tmp_path / "a")
    study.queue_failed()
    champion = finish(again(study))
    whole = finish(new_study(tmp_path / "b"))
    assert champion.params == whole.params
    assert champion.validation["objective"].mean == pytest.approx(whole.validation["objective"].mean)


def test_queueing_twice_queues_once(tmp_path):
    study = finished_with_failures(tmp_path)
    study.queue_failed()
    again(study).queue_failed()
    finish(again(study))
    assert len(again(study).records(Phase.EXPLORE)) == 12 + 2


def test_what_was_run_again_is_not_a_failed_trial_any_more(tmp_path):
    study = finished_with_failures(tmp_path)
    assert [r.key.number for r in study.failed()] == [1, 4]
    study.queue_failed()
    finish(again(study))
    assert again(study).failed() == []


def test_a_retry_that_fails_can_be_tried_once_more(tmp_path):
    study = finished_with_failures(tmp_path)
    study.queue_failed()
    driver = StudyDriver(again(study))
    driver.begin()
    run(driver, change=failing(12))
    driver.end()
    assert [r.key.number for r in again(study).failed()] == [12]
    again(study).queue_failed()
    finish(again(study))
    assert again(study).failed() == []


def test_a_failed_confirmation_runs_again_and_the_champion_has_all_its_seeds(tmp_path):
    study = new_study(tmp_path)
    driver = StudyDriver(study)
    driver.begin()
    run(driver, change=failing(0, phase=Phase.CONFIRM))
    driver.end()
    assert again(study).queue_failed() == 1
    champion = finish(again(study))
    assert champion.validation["aiq"].n == 2
    assert champion.collapse_rate == 0
    whole = finish(new_study(tmp_path / "b"))
    assert champion.validation["aiq"].mean == pytest.approx(whole.validation["aiq"].mean)


def test_retries_are_trained_although_the_budget_is_used_up(tmp_path):
    study = finished_with_failures(tmp_path)
    study.queue_failed()
    heard = Recorder()
    driver = StudyDriver(again(study), [heard])
    driver.begin()
    assignment = driver.next_assignment()
    assert assignment.key.endswith("/explore/12")
    [phase] = heard.of(PhaseStarted)
    assert (phase.done, phase.total) == (12, 12 + 2)  # a view counts up to the trials that there will be
    [started] = heard.of(TrialStarted)
    assert started.retry_of == 1


def test_without_a_failed_trial_there_is_nothing_to_retry(tmp_path):
    study = new_study(tmp_path)
    finish(study)
    with pytest.raises(InputError, match="no failed trial to run again"):
        retry_failed(study.id, home=tmp_path)
