"""A study goes on where it stood: its time, its queue, its verdicts and its finalists."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest

from aiq_search.search.driver import StudyDriver
from aiq_search.study import Phase, PhaseStarted, Study, TrialKey, TrialState
from aiq_search.study.champion import name_finalists
from aiq_search.study.record import BEGIN
from tests.search.reports import report_of
from tests.search.simulation import Recorder, finish, key_of, new_study, run, simulated_space
from tests.search.test_growth import made_up

WIDTHS = {"type": "int", "low": 2, "high": 4, "powers_of": 2}


def reopened(study: Study) -> Study:
    return Study.open(study.id, study.directory.parent.parent)


def begun(study, **options):
    driver = StudyDriver(study, **options)
    driver.begin()
    return driver


def extended(study, trials):
    """The study with a larger budget, as `aiq resume --trials` makes it."""
    more = reopened(study).extended(trials)
    more.choose_finalists_anew()
    return more


# ---- the queue ---------------------------------------------------------------------------------------


def grid_study(home, **search):
    return new_study(
        home,
        parameters={"model.hidden1": WIDTHS, "model.hidden2": WIDTHS},
        enqueue=[{"model.hidden1": 4}, {"model.hidden1": 2, "model.hidden2": 4}],
        search={"trials": 100, "sampler": "grid", "pruner": "none", **search},
        confirm={"finalists": 0},
    )


def test_queued_points_take_no_cell_from_a_grid(tmp_path):
    study = grid_study(tmp_path)
    finish(study)
    tried = {tuple(record.params.values()) for record in study.records()}
    assert tried == {(a, b) for a in (2, 4) for b in (2, 4)}
    assert all(trial.state.is_finished() for trial in study.load(Phase.EXPLORE).trials)


def test_a_search_that_ended_by_its_target_is_complete_although_points_wait(tmp_path):
    study = grid_study(tmp_path, target=0.0)
    finish(study)
    study.mark_ended("finished")
    assert any(not trial.state.is_finished() for trial in study.load(Phase.EXPLORE).trials)
    assert study.complete


def test_a_retry_that_waits_keeps_a_study_from_being_complete(tmp_path):
    study = new_study(tmp_path)
    finish(study)
    study.mark_ended("finished")
    assert study.complete
    record = study.records(Phase.EXPLORE)[0]
    again = {"params": dict(record.params), "seed": 1, "config_hash": "x", "retry_of": 0}
    study.load(Phase.EXPLORE).enqueue_trial(study.space.encode(record.params), user_attrs={BEGIN: again})
    assert not study.complete


def test_a_driver_killed_between_two_draws_draws_the_second_as_it_would_have(tmp_path, monkeypatch):
    whole = new_study(tmp_path, "whole")
    begun(whole).next_assignment()
    study = new_study(tmp_path, "killed")
    killed = begun(study)
    write, written = study.storage.set_trial_param, []

    def dies_at_the_second(*args):
        written.append(args)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(study.storage, "set_trial_param", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        killed.next_assignment()
    begun(reopened(study)).next_assignment()
    assert study.record(Phase.EXPLORE, 0).params == whole.record(Phase.EXPLORE, 0).params


# ---- the time ----------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def explored(driver, clock, trials, hours):
    """Train so many trials that take so long each."""
    for _ in range(trials):
        assignment = driver.next_assignment()
        clock.now += hours * 3600
        for epoch in range(1, 5):
            driver.report(key_of(assignment), report_of(assignment, epoch))


def test_a_new_driver_has_the_hours_that_are_left(tmp_path):
    study = new_study(tmp_path, search={"trials": 50, "max_hours": 2.5}, confirm={"finalists": 0})
    clock = Clock()
    explored(begun(study, clock=clock), clock, 2, hours=1)  # and this driver is gone
    clock.now += 100 * 3600
    driver = begun(reopened(study), clock=clock)
    explored(driver, clock, 1, hours=1)
    assert driver.next_assignment() is None
    assert driver.finished
    assert len(study.records()) == 3


def test_time_until_a_trial_is_put_aside_counts_and_the_break_does_not(tmp_path):
    study = new_study(tmp_path, search={"trials": 50, "max_hours": 2.5}, confirm={"finalists": 0})
    clock = Clock()
    driver = begun(study, clock=clock)
    assignment = driver.next_assignment()
    clock.now += 2 * 3600
    driver.pause(key_of(assignment))
    clock.now += 100 * 3600
    again = begun(reopened(study), clock=clock)
    explored(again, clock, 1, hours=0.4)
    explored(again, clock, 1, hours=0.4)
    assert again.next_assignment() is None
    assert len(study.records()) == 2


# ---- verdicts ----------------------------------------------------------------------------------------


def epochs_of(study):
    return [(record.state, record.epochs) for record in study.records(Phase.EXPLORE)]


@pytest.mark.parametrize("after", ["report", "noting the rung", "the end's attribute"])
@pytest.mark.parametrize("pruner", [{"name": "asha", "reduction_factor": 2}, "median"])
def test_a_trial_whose_driver_died_before_its_verdict_is_pruned_all_the_same(
    tmp_path, monkeypatch, after, pruner
):
    search = {"trials": 10, "pruner": pruner, "sampler": {"name": "random"}}
    whole = new_study(tmp_path, "whole", search=search, confirm={"finalists": 0})
    finish(whole)
    pruned = [record.key.number for record in whole.records() if record.state is TrialState.PRUNED]
    assert pruned

    study = new_study(tmp_path, "killed", search=search, confirm={"finalists": 0})
    driver = begun(study)
    number = pruned[-1]

    def dies(*args, **named):
        raise KeyboardInterrupt

    def change(assignment, epoch, report):
        if key_of(assignment).number == number and epoch == whole.records()[number].epochs:
            if after == "report":
                monkeypatch.setattr(optuna.Trial, "should_prune", dies)
            elif after == "noting the rung":
                monkeypatch.setattr(optuna.Trial, "set_user_attr", dies)
            else:
                monkeypatch.setattr(optuna.Study, "tell", dies)
        return report

    with pytest.raises(KeyboardInterrupt):
        run(driver, change=change)
    monkeypatch.undo()
    finish(reopened(study))
    assert epochs_of(study) == epochs_of(whole)


def test_a_worker_that_died_does_not_have_its_trial_judged_twice(tmp_path):
    study = new_study(tmp_path, search={"pruner": "asha"})
    driver = begun(study)
    first = driver.next_assignment()
    assert driver.report(key_of(first), report_of(first, 1))
    for _ in range(5):  # better ones, by which the first would be stopped now
        other = driver.next_assignment()
        driver.report(key_of(other), report_of(other, 1, {**report_of(other, 1).epochs[0][1], "aiq": 0.9}))
    driver.died(key_of(first), "the worker died")
    assert driver.next_assignment() == first
    assert driver.report(key_of(first), report_of(first, 1))


# ---- confirming --------------------------------------------------------------------------------------


def test_one_confirmation_that_was_interrupted_leaves_no_other_slot_idle(tmp_path):
    study = new_study(tmp_path)
    run(begun(study), stop_after=12 * 4 + 1)  # in the first epoch of the first confirmation
    driver = begun(reopened(study))
    given = [driver.next_assignment() for _ in range(3)]
    assert [key_of(assignment).phase for assignment in given] == [Phase.CONFIRM] * 3


def test_a_study_resumed_between_two_confirmations_says_that_it_confirms(tmp_path):
    study = new_study(tmp_path)
    run(begun(study), stop_after=12 * 4 + 4)
    heard = Recorder()
    begun(reopened(study), listeners=[heard]).next_assignment()
    [phase] = heard.of(PhaseStarted)
    assert (phase.phase, phase.total, phase.done) == (Phase.CONFIRM, 6, 1)


def test_more_trials_do_not_drive_out_a_better_confirmed_champion(tmp_path):
    """The later trials are lucky on their one seed, and poor on the fresh ones."""

    def change(assignment, epoch, report):
        key = key_of(assignment)
        lucky = key.phase is Phase.EXPLORE and key.number >= 4
        origin = None if key.phase is Phase.EXPLORE else study.record(Phase.CONFIRM, key.number).origin
        aiq = 0.9 if lucky else 0.1 if origin is not None and origin >= 4 else 0.5
        return replace(report, epochs=((epoch, {**report.epochs[0][1], "aiq": aiq}),))

    study = new_study(tmp_path, search={"trials": 4})
    champion = finish(study, change=change)
    assert champion.trial < 4
    study = extended(study, 10)
    after = finish(study, change=change)
    assert after.trial == champion.trial
    assert after.validation["aiq"].mean == pytest.approx(0.5)
    assert len(study.finalists) == 4  # the two best now, and the two that were confirmed before


def test_a_configuration_is_confirmed_once_although_it_was_found_twice():
    space = simulated_space(confirm={"finalists": 2, "seeds": 2})
    explored = {n: made_up(n) for n in range(4)}
    best = max(explored.values(), key=lambda record: record.metrics["aiq"])
    explored[9] = replace(best, key=TrialKey("s", Phase.EXPLORE, 9), metrics={"aiq": 2.0})
    confirmed = [made_up(i, phase=Phase.CONFIRM, origin=best.key.number, replicate=i) for i in range(2)]
    named = name_finalists(space, explored, confirmed)
    assert named[0] == best.key.number
    assert 9 not in named
    assert len(named) == 2
