"""A grid whose every cell is trained on several seeds."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from aiq_search.app.look import trial_rows
from aiq_search.app.space import CheckedSpace
from aiq_search.errors import NothingFeasibleError
from aiq_search.search.driver import StudyDriver
from aiq_search.space import SpaceError
from aiq_search.study import Phase, Study, TrialState
from aiq_search.study.record import without_retried
from tests.search.simulation import finish, new_study, run, simulated_space

WIDTHS = {"type": "int", "low": 4, "high": 8, "powers_of": 2}


def edits(**search):
    return {
        "parameters": {"model.hidden1": WIDTHS, "model.hidden2": WIDTHS},
        "search": {"trials": 100, "sampler": "grid", "pruner": "none", "replicates": 3, **search},
        "confirm": {"runs": 0, "finalists": None},
    }


def grid_study(home, **search):
    return new_study(home, **edits(**search))


def reopened(study):
    return Study.open(study.id, study.directory.parent.parent)


def cells(records):
    found = defaultdict(list)
    for record in records:
        found[tuple(record.params.values())].append(record)
    return found


def test_every_cell_is_trained_on_the_same_seeds(tmp_path):
    study = grid_study(tmp_path)
    finish(study, concurrency=3)
    found = cells(study.records())
    assert found.keys() == {(a, b) for a in (4, 8) for b in (4, 8)}
    seeds = {tuple(sorted((r.replicate, r.seed) for r in records)) for records in found.values()}
    assert len(seeds) == 1
    assert [replicate for replicate, _ in seeds.pop()] == [0, 1, 2]
    assert len({record.seed for record in study.records()}) == 3
    assert all(
        record.name == f"trial-{record.key.number:04d}-seed-{record.replicate}" for record in study.records()
    )


def test_the_best_cell_is_that_of_the_best_mean_and_its_best_seed_was_kept(tmp_path):
    def lucky_once(assignment, epoch, report):
        widths = assignment.architecture["arguments"]
        aiq = {(4, 4): 0.5, (4, 8): 0.6, (8, 4): 0.7, (8, 8): 0.8}[widths["hidden1"], widths["hidden2"]]
        aiq += (assignment.seed % 1000) * 1e-6
        if (widths["hidden1"], widths["hidden2"]) == (4, 4) and assignment.key.endswith("/1"):
            aiq = 0.95  # by far the best of all trainings
        return replace(report, epochs=((epoch, {**report.epochs[0][1], "aiq": aiq}),))

    study = grid_study(tmp_path)
    champion = finish(study, change=lucky_once)
    assert tuple(champion.params.values()) == (8, 8)
    assert champion.validation["aiq"].n == len(champion.judges) == 3
    best = max(champion.judges, key=lambda record: record.metrics["aiq"])
    assert champion.record == best
    assert champion.trial == min(record.key.number for record in champion.judges)
    assert study.champion() == champion


def test_a_driver_that_dies_anywhere_leaves_a_grid_that_is_completed(tmp_path):
    whole = grid_study(tmp_path / "whole")
    finish(whole)
    for reports in (1, 2, 7, 30):
        study = grid_study(tmp_path / str(reports))
        driver = StudyDriver(study)
        driver.begin()
        run(driver, concurrency=2, stop_after=reports)
        finish(reopened(study))
        assert numbers(reopened(study)) == numbers(whole)


def numbers(study):
    return sorted((*r.params.values(), r.replicate, r.seed, r.value) for r in study.records())


def test_a_failed_replicate_is_run_again_on_its_seed(tmp_path):
    def second_fails(assignment, epoch, report):
        return replace(report, reason="diverged", done=True) if assignment.key.endswith("/1") else report

    study = grid_study(tmp_path)
    finish(study, change=second_fails)
    failed = study.record(Phase.EXPLORE, 1)
    assert failed.state is TrialState.FAIL
    again = reopened(study)
    assert again.queue_failed() == 1
    finish(again)
    counted = without_retried(reopened(study).records())
    (retried,) = (record for record in counted if record.retry_of == 1)
    assert (retried.replicate, retried.seed, retried.params) == (failed.replicate, failed.seed, failed.params)
    assert Counter(len(records) for records in cells(counted).values()) == {3: 4}
    assert reopened(study).champion().validation["aiq"].n == 3


def test_a_failed_seed_lowers_the_mean_of_its_cell(tmp_path):
    def best_fails_once(assignment, epoch, report):
        widths = assignment.architecture["arguments"]
        aiq = 0.9 if widths["hidden1"] == widths["hidden2"] == 8 else 0.7
        report = replace(report, epochs=((epoch, {**report.epochs[0][1], "aiq": aiq}),))
        fails = aiq == 0.9 and assignment.key.endswith("/9")
        return replace(report, reason="out of memory", done=True) if fails else report

    champion = finish(grid_study(tmp_path), change=best_fails_once)
    assert tuple(champion.params.values()) != (8, 8)  # 0.9 twice and a failure are 0.6 on average
    assert champion.mean == pytest.approx(0.7)


def test_a_grid_of_collapses_has_no_champion(tmp_path):
    def collapses(assignment, epoch, report):
        return replace(report, epochs=((epoch, {**report.epochs[0][1], "efficiency": 0.0, "aiq": 0.0}),))

    study = grid_study(tmp_path)
    assert finish(study, change=collapses) is None
    with pytest.raises(NothingFeasibleError, match="collapsed"):
        study.champion()


def test_a_budget_that_ends_within_a_cell_ends_there_and_may_be_extended(tmp_path):
    study = grid_study(tmp_path, trials=4)
    finish(study)
    assert sorted(len(records) for records in cells(study.records()).values()) == [1, 3]
    more = reopened(study).extended(100)
    finish(more)
    assert sorted(len(records) for records in cells(reopened(study).records()).values()) == [3, 3, 3, 3]


def test_rows_of_a_cell_name_its_first_trial(tmp_path):
    study = grid_study(tmp_path)
    finish(study)
    rows = [(row["trial"], row["number"], row["replicate"]) for row in trial_rows(study)]
    assert rows == [(number - number % 3, number, number % 3) for number in range(12)]
    said = "simulated: 4 configurations, each on 3 seeds; at most 100 trainings."
    assert CheckedSpace(study.space).size_sentence == said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"search": {"sampler": "tpe"}}, "only the cells of a grid .* the sampler tpe looks for the best"),
        ({"search": {"sampler": "random"}}, "only the cells of a grid"),
        ({"search": {"pruner": "asha"}}, r"set search\.pruner to none"),
        ({"confirm": {"runs": 5}}, r"set confirm\.runs to 0"),
        ({"confirm": {"finalists": 2}}, r"set confirm\.runs to 0"),
    ],
)
def test_replicates_are_refused_where_they_make_no_sense(changed, said):
    document = edits()
    for section, fields in changed.items():
        document[section] = {**document[section], **fields}
    with pytest.raises(SpaceError, match=rf"search\.replicates: .*{said}"):
        simulated_space(**document)


def test_replicates_change_what_is_searched_and_one_is_none():
    one, none = simulated_space(**edits(replicates=1)), edits()
    del none["search"]["replicates"]
    assert one.fingerprint == simulated_space(**none).fingerprint
    assert one.fingerprint != simulated_space(**edits()).fingerprint
