import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiq_search.study import Phase, TrialKey, TrialRecord, TrialState, pareto_front
from aiq_search.study.pareto import growth

BOTH = (("accuracy", "maximize"), ("efficiency", "maximize"))


def trial(number, state=TrialState.COMPLETE, feasible=True, collapsed=False, **metrics):
    key = TrialKey("s", Phase.EXPLORE, number)
    return TrialRecord(
        key, state, {}, 0, str(number), metrics=metrics, feasible=feasible, collapsed=collapsed
    )


def test_the_front_holds_those_that_none_beats():
    records = [
        trial(0, accuracy=0.9, efficiency=0.2),
        trial(1, accuracy=0.5, efficiency=0.5),
        trial(2, accuracy=0.5, efficiency=0.4),
        trial(3, accuracy=0.2, efficiency=0.9),
        trial(4, accuracy=0.5, efficiency=0.5),
        trial(5, accuracy=1.0, efficiency=1.0, feasible=False),
        trial(6, accuracy=1.0, efficiency=0.0, collapsed=True),
        trial(7, accuracy=1.0, efficiency=1.0, state=TrialState.PRUNED),
    ]
    front = pareto_front(records, BOTH)
    assert [r.key.number for r in front.records] == [0, 1, 3]
    assert front.reference == (0, 0)
    assert front.hypervolume == pytest.approx(0.9 * 0.2 + 0.5 * 0.3 + 0.2 * 0.4)


def test_a_minimised_number_is_measured_from_the_worst_trial():
    records = [trial(0, accuracy=0.9, parameters=100), trial(1, accuracy=0.5, parameters=10)]
    front = pareto_front(records, (("accuracy", "maximize"), ("parameters", "minimize")))
    assert [r.key.number for r in front.records] == [0, 1]
    assert front.reference == (0, 100)
    assert front.hypervolume == pytest.approx(0.5 * 90)


def test_without_a_trial_the_front_is_empty():
    assert pareto_front([], BOTH).records == ()
    assert pareto_front([], BOTH).hypervolume == 0


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=20))
def test_every_trial_is_beaten_by_the_front_or_on_it(points):
    records = [trial(i, accuracy=a / 10, efficiency=e / 10) for i, (a, e) in enumerate(points)]
    front = pareto_front(records, BOTH).records
    on_front = {(r.metrics["accuracy"], r.metrics["efficiency"]) for r in front}
    assert len(on_front) == len(front)
    for record in records:
        a, e = record.metrics["accuracy"], record.metrics["efficiency"]
        assert any(x >= a and y >= e for x, y in on_front)
        if (a, e) in on_front:
            assert not any(x >= a and y >= e and (x, y) != (a, e) for x, y in on_front)


@pytest.mark.parametrize("name", ["accuracy", "efficiency", "aiq"])
def test_a_minimised_share_is_measured_from_one(name):
    records = [trial(0, **{name: 0.25, "macs": 100}), trial(1, **{name: 0.5, "macs": 10})]
    front = pareto_front(records, ((name, "minimize"), ("macs", "minimize")))
    assert [r.key.number for r in front.records] == [0, 1]
    assert front.reference == (1, 100)
    assert front.hypervolume == pytest.approx(0.5 * 90)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=12))
def test_the_growing_front_has_the_hypervolume_of_the_front_of_what_has_ended(points):
    records = [trial(i, accuracy=a / 10, efficiency=e / 10) for i, (a, e) in enumerate(points)]
    grown = dict((record.key.number, volume) for record, volume in growth(records))
    volume = 0.0
    for number in range(len(records)):
        volume = grown.get(number, volume)
        assert volume == pytest.approx(pareto_front(records[: number + 1]).hypervolume)
    assert list(grown.values()) == sorted(grown.values())
