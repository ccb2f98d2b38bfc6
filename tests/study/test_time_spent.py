"""Where the time of a search went."""

import dataclasses

import pytest

from aiq_search.study import Phase, TrialKey, TrialRecord, TrialState
from aiq_search.study.time_spent import SearchClock, cost_of, time_spent
from tests.search.simulation import new_study

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


@pytest.fixture
def document(tmp_path):
    return new_study(tmp_path).document.changed(created=1000.0, closed=1112.0)


def trial(number, begin, end, state=COMPLETE, phase=Phase.EXPLORE, seconds=None, **more):
    key = TrialKey("study", phase, number)
    return TrialRecord(key, state, {}, 0, "", started=begin, ended=end, seconds=seconds, **more)


def test_every_second_of_every_slot_went_somewhere(document):
    records = [
        trial(0, 1005, 1025, seconds=16),  # waits 4 s for its worker
        trial(1, 1006, 1021, PRUNED, seconds=12),
        trial(2, 1021, 1041, seconds=20),
        trial(3, 1025, 1030, FAIL, seconds=4),
        trial(4, 1030, 1060, PRUNED, seconds=30),
        trial(5, 1045, 1045, copied_from=2),
        trial(0, 1060, 1100, phase=Phase.CONFIRM, seconds=40),
        trial(1, 1070, 1090, phase=Phase.CONFIRM, seconds=20),
    ]
    spent = time_spent(document, records)
    assert spent.slots == 2
    assert (spent.kept, spent.pruned, spent.failed, spent.confirming) == (36, 42, 4, 60)
    assert spent.start == 2 * 5 + 4 + 3
    assert spent.end == 2 * 12
    assert spent.total == pytest.approx(2 * (1112 - 1000))
    assert "Where the time of 2 slots went: exploring, kept 36 s (16%)" in str(spent)


def test_a_study_without_the_workers_seconds_counts_whole_trials(document):
    spent = time_spent(document.changed(closed=None), [trial(0, 1005, 1025), trial(1, 1030, 1040, PRUNED)])
    assert (spent.slots, spent.kept, spent.pruned, spent.waiting, spent.end) == (1, 20, 10, 5, 0)
    assert "failed" not in str(spent)


def test_the_time_between_two_drivers_is_nobodys(document):
    records = [trial(0, 1005, 1025), trial(1, 5000, 5010)]
    spent = time_spent(document.changed(closed=5010.0), records)
    assert (spent.kept, spent.waiting) == (30, 0)


def test_before_a_trial_has_ended_nothing_is_known(document):
    running = dataclasses.replace(trial(0, 1005, None, TrialState.RUNNING), ended=None)
    assert time_spent(document, [running]) is None
    assert time_spent(document, []) is None


def test_the_cost_is_what_was_trained_and_the_time_on_the_clock(document):
    space = document.space.model_validate(document.space.document() | {"resources": {"cpu": 2, "gpu": 0.5}})
    records = [
        trial(0, 1005, 1025, seconds=18, epochs=3),
        trial(1, 1005, 1015, PRUNED, epochs=1),
        trial(2, 1020, 1020, copied_from=0),
        trial(3, 4612, 4622, epochs=2),  # after an hour without a driver
    ]
    cost = cost_of(document.changed(space=space, closed=4625.0), records)
    assert (cost.trainings, cost.epochs) == (3, 6)
    assert cost.hours * 3600 == pytest.approx(25 + 10 + 3)
    assert cost.core_hours * 3600 == pytest.approx(2 * (18 + 10 + 10))
    assert cost.gpu_hours * 3600 == pytest.approx(0.5 * (18 + 10 + 10))


def test_the_clock_of_a_search_stops_where_no_driver_runs(document):
    records = [trial(0, 1005, 1025, seconds=18), trial(1, 1005, 1015), trial(2, 4612, 4622)]
    clock = SearchClock(document, records)
    assert [clock.seconds(record) for record in records] == [25, 15, 35]
    assert [clock.core_seconds(record) for record in records] == [28, 10, 38]
