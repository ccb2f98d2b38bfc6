"""Removing a study, after asking; and running its failed trials again with their configuration and seed."""

from __future__ import annotations

import time

import pytest
from typer.testing import CliRunner

from aiq_search.app.edit import delete_study, retry_failed
from aiq_search.cli.main import app
from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.search.driver import StudyDriver
from aiq_search.study import Phase, PhaseStarted, Study, TrialKey, TrialStarted, TrialState
from aiq_search.tracking import MlflowListener, reconcile
from aiq_search.tracking.removal import runs_of
from aiq_search.worker import Report
from tests.search.simulation import Recorder, finish, new_study, run


@pytest.fixture
def uri(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    return uri


def tracked(home, uri, name="study"):
    study = new_study(home, name, search={"trials": 2}, confirm={"finalists": 0})
    finish(study)
    listener = MlflowListener(study.directory, uri)
    reconcile(study, listener)
    assert not listener.close(60)
    return study


@pytest.mark.slow
def test_a_study_goes_with_its_runs_and_no_others(tmp_path, uri):
    study, other = tracked(tmp_path, uri), tracked(tmp_path, uri, "other")
    assert len(runs_of(study.id, "simulated", uri)) == 3
    done = delete_study(study.id, home=tmp_path)
    assert (done.runs, done.trials) == (3, 2)
    assert not study.directory.exists()
    assert runs_of(study.id, "simulated", uri) == []
    assert len(runs_of(other.id, "simulated", uri)) == 3
    assert Study.open(other.id, tmp_path).records()


def test_with_mlflow_away_nothing_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    study = new_study(tmp_path)
    with pytest.raises(AiqError, match="Nothing was removed: start MLflow"):
        delete_study(study.id, home=tmp_path)
    assert study.directory.exists()
    assert delete_study(study.id, keep_runs=True, home=tmp_path).runs == 0
    assert not study.directory.exists()


def test_trials_in_a_database_go_too(tmp_path, uri):
    from aiq_search.study.storage import open_storage

    url = f"sqlite:///{tmp_path / 'trials.db'}"
    from tests.search.simulation import DATASET, simulated_space

    study = Study.create(tmp_path, simulated_space(), DATASET, "stored", trials_url=url)
    delete_study(study.id, keep_runs=True, home=tmp_path)
    assert open_storage(url).get_all_studies() == []


def test_a_study_that_a_driver_holds_is_refused(tmp_path, uri):
    study = new_study(tmp_path)
    with study.held(), pytest.raises(StudyError, match="is being run by another driver"):
        delete_study(study.id, home=tmp_path)
    assert study.directory.exists()


def test_it_is_asked_first_and_no_means_no(tmp_path, uri):
    study = new_study(tmp_path)
    result = CliRunner().invoke(app, ["delete", study.id], input="n\n")
    assert result.exit_code == 1
    assert "This removes study study: 0 trials" in result.stderr.replace("\n", " ")
    assert study.directory.exists()


def test_with_nobody_to_answer_nothing_is_removed(tmp_path, uri):
    study = new_study(tmp_path)
    result = CliRunner().invoke(app, ["delete", study.id], input="")
    assert "no confirmation, nothing was removed" in str(result.exception)
    assert study.directory.exists()


def test_yes_does_not_ask(tmp_path, uri):
    study = new_study(tmp_path)
    begun = time.monotonic()
    result = CliRunner().invoke(app, ["delete", study.id, "--yes", "--keep-runs"])
    assert result.exit_code == 0
    assert not study.directory.exists()
    assert time.monotonic() - begun < 30


def test_what_goes_is_counted_before_anything_does(tmp_path, uri):
    study = new_study(tmp_path)
    finish(study)
    plan = delete_study(study.id, agree=lambda plan: False, home=tmp_path)
    assert not plan.done
    assert plan.trials == len(study.records())
    assert plan.bytes > 1000
    assert plan.tracking_uri == uri


def failing(*numbers, phase=Phase.EXPLORE):
    """Let these trials of a phase fail."""

    def change(assignment, epoch, report):
        key = TrialKey.parse(assignment.key)
        broken = key.phase is phase and key.number in numbers
        return Report(done=True, reason="ValueError: a bug", traceback="…") if broken else report

    return change


def again(study: Study) -> Study:
    return Study.open(study.id, study.home)


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
