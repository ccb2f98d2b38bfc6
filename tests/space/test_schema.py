import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiq_search.search.check import corner
from aiq_search.space import SpaceError, load_space
from aiq_search.space.points import grid, space_size

optuna.logging.set_verbosity(optuna.logging.WARNING)


def space_of(parameters, **sections):
    return load_space(
        {
            "schema_version": 1,
            "name": "s",
            "model": {"name": "mlp"},
            "dataset": {"name": "digits"},
            "parameters": parameters,
            **sections,
        }
    )


INT = {"type": "int", "low": 1, "high": 4}
CONDITIONAL = {
    "model.depth": {"type": "int", "low": 1, "high": 3},
    "model.hidden1": {"type": "int", "low": 2, "high": 16, "powers_of": 2},
    "model.hidden2": {"type": "int", "low": 2, "high": 16, "powers_of": 2, "when": "model.depth >= 2"},
    "model.hidden3": {"type": "derived", "value": "2 * model.hidden1", "when": "model.depth >= 3"},
}


def test_a_conditional_parameter_exists_where_its_condition_holds():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    space = space_of(CONDITIONAL)
    for _ in range(60):
        params = space.suggest(study.ask())
        depth = params["model.depth"]
        assert set(params) == {"model.depth", *(f"model.hidden{i}" for i in range(1, depth + 1))}
        assert params["model.hidden1"] in (2, 4, 8, 16)
        if depth == 3:
            assert params["model.hidden3"] == 2 * params["model.hidden1"]


def test_an_enqueued_point_is_what_is_suggested():
    space = space_of(CONDITIONAL)
    study = optuna.create_study()
    point = {"model.depth": 2, "model.hidden1": 8, "model.hidden2": 16}
    study.enqueue_trial(space.encode(point))
    assert space.suggest(study.ask()) == point


def test_a_grid_has_every_configuration_once():
    space = space_of(CONDITIONAL)
    cells = list(grid(space))
    assert len(cells) == space_size(space).number == 4 + 16 + 16
    assert len({repr(cell) for cell in cells}) == len(cells)


def test_a_grid_over_a_continuous_parameter_is_refused():
    space = space_of({"model.hidden1": INT, "model.dropout": {"type": "float", "low": 0, "high": 0.5}})
    assert space_size(space).number == math.inf
    with pytest.raises(SpaceError, match="needs a step"):
        next(grid(space))


def test_steps_make_a_float_countable():
    parameter = {"type": "float", "low": 0, "high": 0.5, "step": 0.1}
    assert space_size(space_of({"model.dropout": parameter, "model.hidden1": INT})).number == 6 * 4


def test_constraints_on_parameters_shrink_the_grid():
    space = space_of(
        {"model.hidden1": INT, "model.hidden2": INT},
        objective={"constraints": ["model.hidden2 <= model.hidden1", "accuracy >= 0.5"]},
    )
    assert space_size(space).number == 10
    assert all(cell["model.hidden2"] <= cell["model.hidden1"] for cell in grid(space))
    assert [str(c) for c in space.objective.number_constraints] == ["accuracy >= 0.5"]


def test_the_corners_are_the_narrowest_and_the_widest():
    space = space_of(CONDITIONAL)
    assert corner(space, widest=False) == {"model.depth": 1, "model.hidden1": 2}
    assert corner(space, widest=True)["model.hidden3"] == 32


def test_parameters_set_arguments_of_the_model_and_fields_of_the_training():
    space = space_of(
        {"model.hidden1": INT, "training.learning_rate": {"type": "float", "low": 0.1, "high": 0.2}},
        training={"epochs": 3},
    )
    params = {"model.hidden1": 3, "training.learning_rate": 0.15}
    assert space.model_arguments(params) == {"hidden1": 3}
    assert space.training_options(params).learning_rate == 0.15
    assert space.training_options(params).epochs == 3


@settings(max_examples=60, deadline=None)
@given(
    low=st.integers(1, 100),
    size=st.integers(0, 100),
    step=st.none() | st.integers(1, 7),
    seed=st.integers(0, 9),
)
def test_what_is_drawn_belongs_to_the_range_and_survives_encoding(low, size, step, seed):
    parameter = {"type": "int", "low": low, "high": low + size}
    if step is not None:
        parameter["step"] = step
    space = space_of({"model.hidden1": parameter})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    params = space.suggest(study.ask())
    kind = space.parameters["model.hidden1"]
    assert kind.contains(params["model.hidden1"])
    assert kind.count == len(list(grid(space)))
    study.enqueue_trial(space.encode(params))
    assert space.suggest(study.ask()) == params


def test_a_target_is_for_one_objective():
    with pytest.raises(SpaceError, match=r"search\.target: with several objectives"):
        space_of(
            {"model.hidden1": INT},
            objective={"maximize": ["accuracy", "efficiency"]},
            search={"target": 0.9, "pruner": "none"},
        )


@pytest.mark.parametrize(
    ("value", "contained"), [(0.0, True), (0.3, True), (0.5, True), (0.25, False), (0.6, False)]
)
def test_a_real_number_between_two_steps_does_not_belong_to_the_range(value, contained):
    parameter = {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1}
    kind = space_of({"model.dropout": parameter}).parameters["model.dropout"]
    assert kind.contains(value) is contained
