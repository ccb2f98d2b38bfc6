from collections import Counter
from dataclasses import replace

import optuna
import pytest

from aiq_search.errors import InputError, NothingFeasibleError
from aiq_search.search.driver import StudyDriver
from aiq_search.space import SpaceError
from aiq_search.study import (
    EpochEnded,
    Phase,
    PhaseStarted,
    Study,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    TrialState,
)
from aiq_search.worker import Report
from tests.search.reports import report_of
from tests.search.simulation import Recorder, finish, new_study, run


def states(study, phase):
    return Counter(t.state.name for t in study.load(phase).get_trials(deepcopy=False))


def parameters(study):
    return [record.params for record in study.records(Phase.EXPLORE)]


def test_a_study_explores_confirms_and_measures_the_winner_anew(tmp_path):
    study = new_study(tmp_path)
    heard = Recorder()
    champion = finish(study, [heard])
    explored, confirmed = study.records(Phase.EXPLORE), study.records(Phase.CONFIRM)
    assert len(explored) == 12
    assert len(confirmed) == 2 * 2 + 2
    assert [event.phase for event in heard.of(PhaseStarted)] == [Phase.EXPLORE, Phase.CONFIRM]
    assert champion.phase is Phase.CONFIRM
    assert champion.validation["aiq"].n == champion.test["aiq"].n == 2
    best = sorted(explored, key=lambda r: -r.value)[:2]
    assert {r.origin for r in confirmed} == {r.key.number for r in best} == set(study.finalists)
    fresh = [r for r in confirmed if r.replicate >= 2]
    assert {r.origin for r in fresh} == {champion.trial}
    assert not {r.seed for r in confirmed} & {r.seed for r in explored}
    assert not {r.seed for r in fresh} & {r.seed for r in confirmed if r.replicate < 2}
    assert champion.test["aiq"].mean == pytest.approx(sum(r.metrics["test/aiq"] for r in fresh) / 2)
    assert study.champion() == champion


def test_every_event_of_a_trial_is_told_once_and_in_order(tmp_path):
    heard = Recorder()
    finish(new_study(tmp_path), [heard], concurrency=3)
    assert isinstance(heard.events[0], StudyStarted)
    assert isinstance(heard.events[-1], StudyEnded)
    by_trial = {}
    for event in heard.events:
        if hasattr(event, "key"):
            by_trial.setdefault(event.key, []).append(event)
    assert len(by_trial) == 12 + 6
    for events in by_trial.values():
        assert [type(e) for e in events] == [TrialStarted, *[EpochEnded] * 4, TrialEnded]
        assert [e.epoch for e in events[1:-1]] == [1, 2, 3, 4]


def test_without_confirmation_the_best_feasible_trial_is_the_champion(tmp_path):
    study = new_study(tmp_path, confirm={"finalists": 0})
    champion = finish(study)
    assert champion.phase is Phase.EXPLORE
    assert champion.record.value == max(r.value for r in study.records())
    assert champion.test == {}


@pytest.mark.parametrize("pruner", [{"name": "asha", "reduction_factor": 2}, "median"])
def test_a_pruned_trial_is_told_pruned_with_its_values(tmp_path, pruner):
    study = new_study(tmp_path, search={"trials": 20, "sampler": "random", "pruner": pruner})
    heard = Recorder()
    finish(study, [heard], concurrency=3)
    told = Counter(event.state for event in heard.of(TrialEnded) if event.key.phase is Phase.EXPLORE)
    assert states(study, Phase.EXPLORE) == {str(state): n for state, n in told.items()}
    assert told[TrialState.PRUNED] > 0
    assert states(study, Phase.CONFIRM).keys() == {"COMPLETE"}
    for record in study.records(Phase.EXPLORE):
        trial = study.load(Phase.EXPLORE).trials[record.key.number]
        assert list(trial.intermediate_values) == list(range(1, record.epochs + 1))
        assert trial.value == record.value == trial.intermediate_values[record.epochs]
        assert len(record.history["aiq"]) == record.epochs


def test_the_value_comes_from_the_epoch_of_the_lowest_loss(tmp_path):
    losses = {1: 0.5, 2: 0.2, 3: 0.2, 4: 0.9}

    def change(assignment, epoch, report):
        metrics = {**report.epochs[0][1], "loss": losses[epoch], "aiq": epoch / 10}
        return replace(report, epochs=((epoch, metrics),), chosen=2 if epoch >= 2 else 1)

    study = new_study(tmp_path, confirm={"finalists": 0})
    finish(study, change=change)
    for record in study.records():
        assert (record.epoch, record.value, record.metrics["aiq"]) == (2, 0.2, 0.2)


def test_a_collapse_is_complete_with_value_zero_and_never_a_finalist(tmp_path):
    def change(assignment, epoch, report):
        if assignment.key.endswith(("/3", "/4")):
            metrics = {**report.epochs[0][1], "efficiency": 0.0, "aiq": 0.0, "accuracy": 1.0}
            return replace(report, epochs=((epoch, metrics),))
        return report

    study = new_study(tmp_path, confirm={"finalists": 0}, objective={"maximize": "accuracy"})
    champion = finish(study, change=change)
    collapsed = [r for r in study.records() if r.collapsed]
    assert [r.key.number for r in collapsed] == [3, 4]
    assert all(r.state is TrialState.COMPLETE and r.value == 0 for r in collapsed)
    assert champion.trial not in (3, 4)


def test_a_collapsed_or_failed_confirmation_counts_as_zero(tmp_path):
    def change(assignment, epoch, report):
        if assignment.key.endswith("confirm/0"):
            metrics = {**report.epochs[0][1], "efficiency": 0.0, "aiq": 0.0}
            return replace(report, epochs=((epoch, metrics),))
        if assignment.key.endswith("confirm/1"):
            return Report(done=True, reason="diverged")
        return report

    study = new_study(tmp_path, confirm={"finalists": 2, "seeds": 3})
    champion = finish(study, change=change)
    winner = [r for r in study.records(Phase.CONFIRM) if r.origin == champion.trial and r.replicate < 3]
    values = [r.value if r.state is TrialState.COMPLETE else 0.0 for r in winner]
    assert min(values) == 0
    assert champion.validation["aiq"].mean == pytest.approx(sum(values) / 3)
    assert champion.collapse_rate == pytest.approx(1 / 6)


def test_a_failure_is_told_fail_with_its_reason(tmp_path):
    def change(assignment, epoch, report):
        if assignment.key.endswith("explore/2") and epoch == 3:
            return Report(done=True, reason="diverged: the loss is nan", traceback="Traceback: …")
        return report

    study = new_study(tmp_path)
    finish(study, change=change)
    record = study.record(Phase.EXPLORE, 2)
    assert record.state is TrialState.FAIL
    assert record.reason == "diverged: the loss is nan"
    assert record.traceback == "Traceback: …"
    assert record.epochs == 2
    assert states(study, Phase.EXPLORE) == {"COMPLETE": 11, "FAIL": 1}


def test_a_search_where_most_trials_fail_stops_and_says_so(tmp_path):
    study = new_study(tmp_path, search={"trials": 100})
    heard = Recorder()
    driver = StudyDriver(study, [heard])
    driver.begin()
    run(driver, change=lambda a, e, r: Report(done=True, reason="out of luck"))
    assert driver.draining
    assert "8 of 8 trials failed" in driver.message
    assert "out of luck" in driver.message
    assert len(study.records()) == 8


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("stop_after", [1, 5, 30, 47, 50, 60, 71])
def test_a_driver_killed_anywhere_is_continued_without_loss_or_repetition(tmp_path, concurrency, stop_after):
    whole = new_study(tmp_path, "whole")
    finish(whole)
    study = new_study(tmp_path, "killed")
    driver = StudyDriver(study)
    driver.begin()
    run(driver, concurrency=concurrency, stop_after=stop_after)
    done = {str(r.key): r for r in study.records() if r.finished}

    again = Study.open("killed", tmp_path)
    heard = Recorder()
    champion = finish(again, [heard], concurrency=concurrency)
    assert heard.of(StudyStarted)[0].resumed
    assert not done.keys() & {str(e.key) for e in heard.of(TrialStarted)}, "a finished trial ran again"
    after = {str(r.key): r for r in again.records()}
    assert len(after) == 12 + 6
    assert all(r.state is TrialState.COMPLETE for r in after.values())
    assert all(after[key] == record for key, record in done.items())
    assert parameters(again) == parameters(whole), "what is tried depends on where it was stopped"
    assert champion.document()["metrics"] == whole.champion().document()["metrics"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", {"name": "tpe", "n_startup_trials": 3}])
def test_the_seed_fixes_what_is_tried_and_a_resume_does_not_move_it(tmp_path, sampler):
    search = {"trials": 16, "sampler": sampler, "pruner": "asha"}
    drawn = []
    for name, stop in (("a", None), ("b", None), ("c", 23)):
        study = new_study(tmp_path, name, search=search)
        if stop is not None:
            driver = StudyDriver(study)
            driver.begin()
            run(driver, stop_after=stop)
            study = Study.open(name, tmp_path)
        finish(study)
        drawn.append(parameters(study))
    assert drawn[0] == drawn[1] == drawn[2]
    other = new_study(tmp_path, "other", search={**search, "seed": 1})
    finish(other)
    assert parameters(other) != drawn[0]


def test_tpe_learns_and_beats_random(tmp_path):
    best = {}
    for sampler in ("random", "tpe"):
        values = []
        for seed in range(3):
            search = {"trials": 40, "sampler": sampler, "pruner": "none", "seed": seed}
            study = new_study(tmp_path, f"{sampler}-{seed}", search=search, confirm={"finalists": 0})
            finish(study)
            values += sorted(r.value for r in study.records())[-10:]
        best[sampler] = sum(values) / len(values)
    assert best["tpe"] > best["random"]


def test_enqueued_points_come_first(tmp_path):
    points = [{"model.hidden1": 3, "model.hidden2": 50}, {"model.hidden1": 12}]
    study = new_study(tmp_path, enqueue=points)
    finish(study)
    first, second, *_ = parameters(study)
    assert first == points[0]
    assert second["model.hidden1"] == 12


def test_a_grid_is_tried_cell_by_cell_and_ends_there(tmp_path):
    widths = {"type": "int", "low": 2, "high": 8, "powers_of": 2}
    study = new_study(
        tmp_path,
        parameters={"model.hidden1": widths, "model.hidden2": widths},
        search={"trials": 100, "sampler": "grid", "pruner": "asha"},
    )
    finish(study)
    cells = [tuple(p.values()) for p in parameters(study)]
    assert sorted(cells) == sorted((a, b) for a in (2, 4, 8) for b in (2, 4, 8))


def test_a_configuration_asked_for_again_is_answered_not_retrained(tmp_path):
    tiny = {"type": "int", "low": 2, "high": 3}
    study = new_study(
        tmp_path, parameters={"model.hidden1": tiny, "model.hidden2": tiny}, search={"trials": 12}
    )
    driver = StudyDriver(study)
    driver.begin()
    trained = [k for k in run(driver) if k.phase is Phase.EXPLORE]
    records = study.records(Phase.EXPLORE)
    assert len(records) == 12
    assert len(trained) == len({r.config_hash for r in records}) <= 4
    copies = [r for r in records if r.copied_from is not None]
    for copy in copies:
        original = records[copy.copied_from]
        assert copy.metrics == original.metrics
        assert copy.reason == f"same configuration as trial {copy.copied_from}: its result, not trained again"


def test_duplicates_may_be_trained_with_a_new_seed(tmp_path):
    tiny = {"type": "int", "low": 2, "high": 2}
    parameters_ = {"model.hidden1": tiny, "model.hidden2": tiny}
    study = new_study(tmp_path, parameters=parameters_, search={"trials": 5, "duplicates": "new_seed"})
    finish(study)
    records = study.records(Phase.EXPLORE)
    assert len({r.seed for r in records}) == 5
    assert len({r.config_hash for r in records}) == 1


def test_constraints_on_parameters_are_met_by_every_trial(tmp_path):
    study = new_study(tmp_path, objective={"constraints": ["model.hidden2 <= model.hidden1"]})
    finish(study)
    assert len(study.records(Phase.EXPLORE)) == 12
    assert all(p["model.hidden2"] <= p["model.hidden1"] for p in parameters(study))


def test_constraints_on_parameters_that_nothing_meets_are_reported(tmp_path):
    study = new_study(tmp_path, objective={"constraints": ["model.hidden1 > 100"]})
    driver = StudyDriver(study)
    driver.begin()
    with pytest.raises(SpaceError, match="configurations in a row broke a constraint"):
        driver.next_assignment()


def test_the_champion_is_the_best_feasible_and_constraints_reach_optuna(tmp_path):
    study = new_study(tmp_path, objective={"constraints": ["parameters <= 500"]}, search={"trials": 30})
    champion = finish(study)
    assert champion.record.metrics["parameters"] <= 500
    assert any(not r.feasible for r in study.records(Phase.EXPLORE))
    for trial in study.load(Phase.EXPLORE).trials:
        record = study.record(Phase.EXPLORE, trial.number)
        assert all(value <= 0 for value in trial.constraints.values()) == record.feasible


def test_where_nothing_is_feasible_the_study_says_how_near_it_came(tmp_path):
    study = new_study(tmp_path, objective={"constraints": ["accuracy >= 0.999"]})
    heard = Recorder()
    assert finish(study, [heard]) is None
    assert study.records(Phase.CONFIRM) == []
    with pytest.raises(NothingFeasibleError, match=r"nearest is trial \d+ with accuracy = 0\.") as error:
        study.champion()
    assert error.value.exit_code == 3
    assert heard.of(StudyEnded)[0].champion is None


def test_several_objectives_are_told_all(tmp_path):
    study = new_study(
        tmp_path,
        objective={"maximize": ["accuracy", "efficiency"], "minimize": "parameters"},
        search={"trials": 10, "sampler": "nsga2", "pruner": "none"},
    )
    finish(study)
    trials = study.load(Phase.EXPLORE).trials
    assert all(len(t.values) == 3 for t in trials)
    assert study.load(Phase.EXPLORE).directions == [
        optuna.study.StudyDirection.MAXIMIZE,
        optuna.study.StudyDirection.MAXIMIZE,
        optuna.study.StudyDirection.MINIMIZE,
    ]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [({"target": 0.0}, 1), ({"no_improvement": 1, "trials": 50}, None), ({"max_hours": 1e-9}, 0)],
)
def test_stopping_rules_end_the_exploring(tmp_path, rule, expected):
    study = new_study(tmp_path, search={"trials": 12, **rule}, confirm={"finalists": 0})
    finish(study)
    tried = len(study.records())
    assert tried == expected if expected is not None else 1 < tried < 50


def test_draining_asks_for_nothing_more_and_leaves_the_rest_running(tmp_path):
    study = new_study(tmp_path)
    heard = Recorder()
    driver = StudyDriver(study, [heard])
    driver.begin()
    assignments = [driver.next_assignment() for _ in range(2)]
    driver.report(heard.of(TrialStarted)[0].key, report_of(assignments[0], 1))
    driver.draining = True
    assert driver.next_assignment() is None
    for started in heard.of(TrialStarted):
        driver.pause(started.key)
    driver.end()
    assert heard.of(StudyEnded)[0].reason == "interrupted"
    assert heard.of(StudyEnded)[0].counts["RUNNING"] == 2
    assert all(r.state is TrialState.RUNNING for r in study.records())


def test_a_restarted_worker_may_tell_epochs_again(tmp_path):
    study = new_study(tmp_path, search={"trials": 1}, confirm={"finalists": 0})
    heard = Recorder()
    driver = StudyDriver(study, [heard])
    driver.begin()
    assignment = driver.next_assignment()
    key = heard.of(TrialStarted)[0].key
    for epoch in (1, 2, 1, 2, 3, 4):
        driver.report(key, report_of(assignment, epoch))
    assert [e.epoch for e in heard.of(EpochEnded)] == [1, 2, 3, 4]
    assert study.records()[0].state is TrialState.COMPLETE
    assert driver.report(key, report_of(assignment, 4)) is False


def test_weights_are_kept_of_the_best_alone(tmp_path):
    study = new_study(tmp_path, search={"trials": 12})

    def change(assignment, epoch, report):
        from pathlib import Path

        if report.done:
            Path(assignment.weights).write_bytes(b"weights")
        else:
            Path(assignment.checkpoint).write_bytes(b"checkpoint")
        return report

    champion = finish(study, change=change)
    kept = sorted(path.name for path in study.checkpoints.iterdir())
    best = sorted(study.records(Phase.EXPLORE), key=lambda r: -r.value)[:5]
    assert {study.weights_path(r.key).name for r in best} == {n for n in kept if n.startswith("explore")}
    assert sum(n.startswith("confirm") for n in kept) == 2
    assert study.weights_path(champion.record.key).exists()


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"sampler": {"name": "tpe", "n_startup": 3}}, 'TPESampler has no option .* "n_startup_trials"'),
        ({"pruner": {"name": "asha", "min_resources": 3}}, 'no option .* "min_resource"'),
        ({"pruner": {"name": "asha", "reduction_factor": 1}}, "search.pruner"),
    ],
)
def test_an_option_that_optuna_does_not_take_is_one_sentence(tmp_path, search, said):
    study = new_study(tmp_path, search=search)
    with pytest.raises(InputError, match=said):
        StudyDriver(study)


def test_an_end_without_a_beginning_tells_and_deletes_nothing(tmp_path):
    study = new_study(tmp_path)
    finish(study)
    weights = study.weights_path(study.champion().record.key)
    weights.write_bytes(b"weights")
    heard = Recorder()
    assert StudyDriver(study, [heard]).end("failed") is None
    assert weights.exists()
    assert heard.events == []


@pytest.mark.parametrize("queued", [0, 1, 2])
def test_a_first_start_that_dies_at_once_queues_each_point_once(tmp_path, queued):
    points = [{"model.hidden1": 3, "model.hidden2": 50}, {"model.hidden1": 12, "model.hidden2": 6}]
    study = new_study(tmp_path, enqueue=points, search={"trials": 4})
    for point in points[:queued]:
        study.load(Phase.EXPLORE).enqueue_trial(study.space.encode(point))
    StudyDriver(study).begin()
    finish(study)
    records = study.records(Phase.EXPLORE)
    assert [r.params for r in records[:2]] == points
    assert [r.copied_from for r in records] == [None] * 4


def test_a_failure_is_no_known_result(tmp_path):
    one = {"type": "int", "low": 2, "high": 2}
    study = new_study(tmp_path, parameters={"model.hidden1": one, "model.hidden2": one}, search={"trials": 3})

    def change(assignment, epoch, report):
        return Report(done=True, reason="bad luck") if assignment.key.endswith("explore/0") else report

    finish(study, change=change)
    first, second, third = study.records(Phase.EXPLORE)
    assert [r.state for r in (first, second, third)] == [
        TrialState.FAIL,
        TrialState.COMPLETE,
        TrialState.COMPLETE,
    ]
    assert (second.copied_from, third.copied_from) == (None, 1)


def test_a_seed_that_failed_was_good_at_nothing(tmp_path):
    def change(assignment, epoch, report):
        if assignment.key.endswith("confirm/0") and epoch == 2:
            return Report(done=True, reason="diverged")
        metrics = {**report.epochs[0][1], "accuracy": 0.95}
        return replace(report, epochs=((epoch, metrics),))

    study = new_study(
        tmp_path, objective={"constraints": ["accuracy >= 0.9"]}, confirm={"finalists": 1, "seeds": 2}
    )
    assert finish(study, change=change) is None
    with pytest.raises(NothingFeasibleError, match="on average over its fresh seeds"):
        study.champion()


def test_a_seed_that_failed_is_as_bad_as_the_worst_where_less_is_better(tmp_path):
    def change(assignment, epoch, report):
        return Report(done=True, reason="diverged") if assignment.key.endswith("confirm/0") else report

    study = new_study(
        tmp_path, objective={"minimize": "loss"}, confirm={"finalists": 2, "seeds": 2, "ties": "best"}
    )
    champion = finish(study, change=change)
    _, second = study.finalists
    assert champion.trial == second


def test_more_trials_choose_the_finalists_anew_and_keep_those_who_were_confirmed(tmp_path):
    study = new_study(tmp_path, search={"trials": 4})
    finish(study)
    before = {(r.origin, r.replicate) for r in study.records(Phase.CONFIRM)}
    confirmed = set(study.finalists)
    more = study.extended(20)
    more.choose_finalists_anew()
    finish(more)
    assert len(more.records(Phase.EXPLORE)) == 20
    best = sorted(more.records(Phase.EXPLORE), key=lambda r: -r.value)[:2]
    assert set(more.finalists) == {r.key.number for r in best} | confirmed
    after = [(r.origin, r.replicate) for r in more.records(Phase.CONFIRM)]
    assert len(after) == len(set(after))
    assert before <= set(after)
