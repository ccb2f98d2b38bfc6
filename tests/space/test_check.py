import re

import pytest

from aiq_search.app.space import CheckedSpace
from aiq_search.search.check import check_networks, corner
from aiq_search.space import SpaceError
from tests.space.test_schema import CONDITIONAL, INT, space_of

SHAPE = (1, 8, 8)
WIDTH = {"type": "int", "low": 2, "high": 1024, "log": True}


def constrained(*constraints, parameters=None):
    parameters = parameters or {"model.hidden1": INT, "model.hidden2": INT}
    return space_of(parameters, objective={"constraints": list(constraints)})


def test_a_constraint_on_a_layer_that_no_network_has_is_refused():
    with pytest.raises(
        SpaceError, match=r"no network of the space has a hidden layer 'hiden1'.*\"hidden1\""
    ) as error:
        check_networks(constrained("efficiency/hiden1 >= 0.5"), SHAPE, 10)
    assert error.value.exit_code == 2


def test_a_constraint_on_a_layer_of_every_network_is_good():
    check_networks(constrained("efficiency/hidden2 >= 0.5", "accuracy >= 0.5"), SHAPE, 10)


def test_the_output_layer_has_no_efficiency_to_bound():
    with pytest.raises(SpaceError, match="no network of the space has a hidden layer 'output'"):
        check_networks(constrained("efficiency/output >= 0.5"), SHAPE, 10)


def test_a_layer_that_only_the_networks_between_the_corners_have_is_good():
    parameters = {
        "model.hidden1": INT,
        "training.optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw"]},
        "model.hidden2": {**INT, "when": "training.optimizer == 'adam'"},
    }
    check_networks(constrained("efficiency/hidden2 >= 0.5", parameters=parameters), SHAPE, 10)
    with pytest.raises(SpaceError, match="hidden3"):
        check_networks(constrained("efficiency/hidden3 >= 0.5", parameters=parameters), SHAPE, 10)


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_corner_meets_the_constraints_on_parameters(sampler):
    space = space_of(
        {"model.hidden1": WIDTH, "model.hidden2": WIDTH},
        objective={"constraints": ["model.hidden1 * model.hidden2 <= 1000", "model.hidden1 > 2"]},
        search={"sampler": sampler},
    )
    narrow, wide = (corner(space, widest=widest) for widest in (False, True))
    assert space.allows(narrow)
    assert space.allows(wide)
    assert sum(narrow.values()) < 30 < sum(wide.values())


def test_a_network_that_the_constraints_exclude_need_not_be_buildable():
    space = space_of(
        {"model.conv1": INT, "training.momentum": {"type": "float", "low": 0.1, "high": 0.5}},
        model={"name": "tests.space.test_check:picky"},
        objective={"constraints": ["model.conv1 > 1"]},
    )
    check_networks(space, SHAPE, 10)


def picky(input_shape, classes, conv1):
    from torch import nn

    if conv1 < 2:
        raise ValueError("too narrow")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, conv1), nn.ReLU(), nn.Linear(conv1, classes))


def test_a_grid_whose_constraints_leave_nothing_has_no_corner():
    space = space_of(
        {"model.hidden1": INT}, objective={"constraints": ["model.hidden1 > 9"]}, search={"sampler": "grid"}
    )
    with pytest.raises(SpaceError, match="allow no configuration"):
        corner(space, widest=True)


@pytest.mark.parametrize(
    ("derived", "said"),
    [
        ("model.hidden1 // (model.hidden1 - 4)", "cannot be computed with model.hidden1 = 4: .*by zero"),
        (
            "model.hidden1 < 'wide'",
            "with model.hidden1 = 1: expected a number, but got 'wide'",
        ),
        (
            "(0 - model.hidden1) ** 0.5",
            r"with model.hidden1 = 1: expected a number, but got \(6",
        ),
        ("1 ** (60 + model.hidden1 * 2)", "cannot be computed with model.hidden1 = 4: the exponent 68"),
    ],
)
def test_an_expression_that_cannot_be_computed_is_one_sentence(derived, said):
    value = {"type": "derived", "value": derived}
    for space in (
        space_of({"model.hidden1": INT, "model.hidden2": value}),
        space_of({"model.hidden1": INT}, objective={"constraints": [derived]}),
        space_of({"model.hidden1": INT, "model.hidden2": {**INT, "when": derived}}),
    ):
        with pytest.raises(
            SpaceError,
            match=re.compile(
                rf"(parameters\.model\.hidden2\.(when|value)|objective\.constraints\.0): .*{said}"
            ),
        ):
            check_networks(space, SHAPE, 10)


def test_a_derived_value_that_training_refuses_is_one_sentence():
    space = space_of(
        {"model.hidden1": INT, "training.batch_size": {"type": "derived", "value": "model.hidden1 - 1"}}
    )
    with pytest.raises(SpaceError, match=r"parameters\.training\.batch_size: 0 is not possible: "):
        check_networks(space, SHAPE, 10)


def test_what_is_derived_from_an_absent_parameter_is_absent():
    parameters = {**CONDITIONAL, "model.hidden3": {"type": "derived", "value": "2 * model.hidden2"}}
    space = space_of(parameters)
    assert corner(space, widest=False) == {"model.depth": 1, "model.hidden1": 2}
    assert corner(space, widest=True)["model.hidden3"] == 32


def test_the_size_is_a_sentence():
    assert CheckedSpace(space_of(CONDITIONAL)).size_sentence == "s: 36 configurations; 60 are tried."
    endless = space_of({"training.momentum": {"type": "float", "low": 0.1, "high": 0.5}})
    assert CheckedSpace(endless).size_sentence == "s: infinitely many configurations; 60 are tried."
