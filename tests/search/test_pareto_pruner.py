"""Trials of which several others, no larger, were already better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiq_search.errors import InputError
from aiq_search.search.driver import StudyDriver
from aiq_search.search.pareto_pruner import ParetoPruner
from aiq_search.space import load_space
from aiq_search.study import Phase, Study, TrialState
from tests.search.simulation import finish, new_study, run, simulated_space

MERITS = st.tuples(st.integers(-3, 0), st.integers(-3, 0))


def smallest_study(home, study_id="study", **search):
    """A search for the smallest network that is accurate enough."""
    return new_study(
        home,
        study_id,
        objective={"minimize": "parameters", "constraints": ["accuracy >= 0.8"]},
        search={"trials": 60, "sampler": "random", "pruner": "pareto", **search},
        training={"epochs": 9},
        confirm={"finalists": 0},
    )


def outcomes(study):
    return [(r.key.number, r.state, r.params, r.epochs, r.value) for r in study.records(Phase.EXPLORE)]


def test_it_finds_what_a_search_without_pruning_finds_in_a_fraction_of_the_epochs(tmp_path):
    pruned, whole = smallest_study(tmp_path, "pruned"), smallest_study(tmp_path, "whole", pruner="none")
    for study in (pruned, whole):
        finish(study)
    assert pruned.champion().params == whole.champion().params
    epochs = {study.id: sum(r.epochs for r in study.records(Phase.EXPLORE)) for study in (pruned, whole)}
    assert epochs["pruned"] < 0.5 * epochs["whole"]
    ended = {r.epochs for r in pruned.records(Phase.EXPLORE) if r.state is TrialState.PRUNED}
    assert ended <= {1, 3}


def test_a_trial_stops_only_where_enough_others_dominate_it(tmp_path):
    study = smallest_study(tmp_path)
    finish(study)
    records = study.records(Phase.EXPLORE)
    for record in records:
        if record.state is TrialState.PRUNED:
            own = record.until(record.epochs).metrics
            better = [
                r.key
                for r in records
                if r.key.number < record.key.number
                and r.epochs >= record.epochs
                and r.metrics["parameters"] <= own["parameters"]
                and r.until(record.epochs).metrics["accuracy"] >= min(0.8, own["accuracy"])
            ]
            assert len(better) >= 3, record


@pytest.mark.parametrize("reports", [1, 5, 30, 77])
def test_a_search_whose_driver_was_killed_ends_as_it_would_have(tmp_path, reports):
    whole, broken = smallest_study(tmp_path, "whole"), smallest_study(tmp_path, "broken")
    finish(whole)
    driver = StudyDriver(broken)
    driver.begin()
    run(driver, stop_after=reports)
    again = Study.open("broken", tmp_path)
    finish(again)
    assert outcomes(again) == outcomes(whole)


def test_several_objectives_are_pruned_by_dominance(tmp_path):
    study = new_study(
        tmp_path,
        objective={"maximize": ["accuracy", "efficiency"], "minimize": "parameters"},
        search={"trials": 40, "sampler": "tpe", "pruner": "pareto"},
    )
    finish(study)
    states = [r.state for r in study.records(Phase.EXPLORE)]
    assert states.count(TrialState.PRUNED) > 5
    assert states.count(TrialState.COMPLETE) > 5


def test_a_configuration_that_was_stopped_is_answered_so_when_it_is_proposed_again(tmp_path):
    few = {"type": "int", "low": 2, "high": 8}
    study = new_study(
        tmp_path,
        parameters={"model.hidden1": few, "model.hidden2": few},
        objective={"minimize": "parameters", "constraints": ["accuracy >= 0.8"]},
        search={"trials": 80, "sampler": "random", "pruner": {"name": "pareto", "dominated_by": 1}},
    )
    finish(study)
    copied = [r for r in study.records(Phase.EXPLORE) if r.copied_from is not None]
    assert any(r.state is TrialState.PRUNED for r in copied)


@given(st.lists(MERITS, min_size=1, max_size=20), st.integers(1, 3))
def test_what_nobody_dominates_is_never_stopped(shown, dominated_by):
    pruner = ParetoPruner(dominated_by=dominated_by)
    for number, own in enumerate(shown):
        dominators = sum(a >= own[0] and b >= own[1] and (a, b) != own for a, b in shown[:number])
        assert pruner.stops(number, 1, own) == (dominators >= dominated_by)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dominated_by": 0}, "dominated_by has to be a whole number of at least 1, but is 0"),
        ({"min_resource": 0.5}, "min_resource must be int, but got 0.5"),
        ({"reduction_factor": 1}, "reduction_factor has to be a whole number of at least 2"),
        ({"patience": 3}, "patience"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    study = smallest_study(tmp_path, pruner={"name": "pareto", **options})
    with pytest.raises(InputError, match=message):
        StudyDriver(study)


@pytest.mark.parametrize(
    ("objective", "pruner"),
    [({}, "asha"), ({"minimize": "parameters"}, "pareto"), ({"maximize": ["aiq", "accuracy"]}, "pareto")],
)
def test_the_default_follows_from_the_objective(objective, pruner):
    space = load_space({**simulated_space().document(), "objective": objective, "search": {}})
    assert space.search.pruner.name == pruner
    assert load_space(space.document()).search.pruner == space.search.pruner


@pytest.mark.parametrize("pruner", ["asha", "median"])
@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"minimize": "macs"}, "would stop networks for their macs alone"),
        ({"maximize": ["aiq", "accuracy"]}, "there are several objectives"),
    ],
)
def test_a_pruner_that_ranks_by_one_number_is_refused_where_none_does(tmp_path, pruner, objective, message):
    with pytest.raises(
        InputError, match=rf"search.pruner: {pruner} .*{message}.*set search.pruner to pareto"
    ):
        new_study(tmp_path, objective=objective, search={"pruner": pruner})
