"""Nothing that the driver does for a trial may grow with the trials that there are."""

import os
import random
from collections import Counter
from pathlib import Path

import optuna
import pytest

from aiq_search.search.driver import StudyDriver
from aiq_search.search.ledger import Ledger
from aiq_search.study import Phase, TrialKey, TrialRecord, TrialState
from aiq_search.study.record import without_retried
from aiq_search.study.retention import Retention
from tests.search.simulation import new_study, run, simulated_space


def big_study(tmp_path, trials=20):
    return new_study(tmp_path, search={"trials": trials, "duplicates": "new_seed"}, confirm={"finalists": 0})


def made_up(number, state=TrialState.COMPLETE, phase=Phase.EXPLORE, **fields):
    aiq = random.Random(number).random()
    metrics = {"aiq": aiq} if state is TrialState.COMPLETE else {}
    return TrialRecord(
        TrialKey("s", phase, number), state, {}, 0, str(number), metrics=metrics, feasible=True, **fields
    )


def test_the_driver_looks_through_all_trials_at_the_first_question_alone(tmp_path, monkeypatch):
    driver = StudyDriver(big_study(tmp_path))
    driver.begin()
    looks = []
    storage = driver.study.storage
    listed = storage.get_all_trials
    monkeypatch.setattr(storage, "get_all_trials", lambda *a, **b: looks.append(1) or listed(*a, **b))
    assert len(run(driver, concurrency=2)) == 20
    assert len(looks) <= 2  # at the first question: what waits, and how many there will be


def test_the_journal_waits_for_the_disk_twice_a_trial(tmp_path, monkeypatch):
    driver = StudyDriver(big_study(tmp_path))
    driver.begin()
    waits = []
    monkeypatch.setattr(os, "fsync", waits.append)
    run(driver)
    assert len(waits) == 2 * 20


def test_no_look_into_the_folder_of_weights_while_trials_run(tmp_path, monkeypatch):
    study = big_study(tmp_path)
    driver = StudyDriver(study)
    driver.begin()
    monkeypatch.setattr(Retention, "sweep", lambda *_: 1 / 0)

    def change(assignment, epoch, report):
        if report.done:
            Path(assignment.weights).touch()
        return report

    run(driver, change=change)
    best = sorted(study.records(), key=lambda record: -record.value)[:5]
    there = {path.name for path in study.checkpoints.iterdir()}
    assert there == {study.weights_path(record.key).name for record in best}


def test_what_waits_is_asked_for_in_order_and_seen_when_it_was_queued_later(tmp_path):
    study = new_study(tmp_path).load(Phase.EXPLORE, optuna.samplers.RandomSampler(0))
    widths = [{"model.hidden1": 3 + i, "model.hidden2": 4} for i in range(3)]
    for point in widths[:2]:
        study.enqueue_trial(point)
    space = simulated_space()
    assert space.suggest(study.ask()) == widths[0]
    study.enqueue_trial(widths[2])
    assert [space.suggest(study.ask()) for _ in range(2)] == widths[1:]
    assert study.ask().number == 3
    assert study.frozen(study.running(1)).params == widths[1]


def test_the_ledger_counts_what_a_look_through_all_records_would():
    draw = random.Random(0)
    ledger, told = Ledger(simulated_space().objective), []
    for number in range(300):
        retried = {record.retry_of for record in told}
        again = [r for r in told if r.state is TrialState.FAIL and r.key.number not in retried]
        kind = draw.choice(["COMPLETE", "PRUNED", "FAIL", "retry", "copy"])
        if kind == "retry" and again:
            state = draw.choice([TrialState.COMPLETE, TrialState.FAIL])
            record = made_up(number, state, retry_of=draw.choice(again).key.number)
        elif kind == "copy" and told:
            record = made_up(number, TrialState.PRUNED, copied_from=0)
        else:
            record = made_up(number, TrialState[kind] if kind.isupper() else TrialState.FAIL)
        told.append(record)
        ledger.add(record)
        counted = [r for r in without_retried(told) if r.copied_from is None]
        assert ledger.trained == len(counted)
        assert ledger.failed == sum(r.state is TrialState.FAIL for r in counted)
        assert ledger.asked == sum(r.retry_of is None for r in told)
    assert ledger.counts() == Counter(str(r.state) for r in told)
    best = max((r for r in told if r.state is TrialState.COMPLETE), key=lambda r: r.metrics["aiq"])
    assert ledger.best is best
    assert ledger.since_best == 299 - best.key.number


def test_those_whose_weights_go_are_all_but_the_best(tmp_path):
    retention = Retention(new_study(tmp_path, confirm={"finalists": 7}))
    records = [made_up(number) for number in random.Random(1).sample(range(100), 100)]
    gone = [gone for record in records for gone in retention.add(record)]
    ranked = sorted(records, key=lambda record: -record.metrics["aiq"])
    assert sorted(r.key.number for r in gone) == sorted(r.key.number for r in ranked[7:])


@pytest.mark.parametrize("replicates", [1, 3])
def test_all_weights_are_kept_where_the_space_asks_for_it_but_those_of_what_failed(tmp_path, replicates):
    search = {"weights": "all", "sampler": "grid", "pruner": "none", "replicates": replicates}
    study = new_study(tmp_path, search=search, confirm={"runs": 0, "finalists": None})
    retention = Retention(study)
    records = [made_up(number, replicate=number % replicates) for number in range(30)]
    failed = made_up(30, TrialState.FAIL)
    assert [gone for record in [*records, failed] for gone in retention.add(record)] == [failed]
    kept = study.weights_path(records[0].key)
    kept.write_bytes(b"weights")
    retention.sweep([])
    assert kept.exists()


def test_of_a_finalist_s_seeds_the_best_one_is_kept(tmp_path):
    retention = Retention(new_study(tmp_path))
    records = [made_up(number, phase=Phase.CONFIRM, origin=number % 3) for number in range(30)]
    gone = {gone.key.number for record in records for gone in retention.add(record)}
    for origin in range(3):
        kept = max((r for r in records if r.origin == origin), key=lambda r: r.metrics["aiq"])
        assert [r for r in records if r.origin == origin and r.key.number not in gone] == [kept]
