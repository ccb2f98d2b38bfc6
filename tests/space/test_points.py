import math
from itertools import islice

import pytest

from aiq_search.space import SpaceError
from aiq_search.space.points import drawn, grid, space_size
from tests.space.test_schema import CONDITIONAL, space_of

WIDE = {"type": "int", "low": 1, "high": 1_000_000}


def test_a_large_space_with_conditions_is_said_to_have_at_most_so_many():
    space = space_of(
        {"model.depth": WIDE, "model.hidden1": WIDE, "model.hidden2": {**WIDE, "when": "model.depth >= 2"}}
    )
    assert str(space_size(space)) == "at most 1,000,000,000,000,000,000 configurations"
    assert not space_size(space).exact


def test_a_small_space_is_counted():
    assert str(space_size(space_of(CONDITIONAL))) == "36 configurations"
    assert space_size(space_of({"model.hidden1": WIDE})).number == 1_000_000


def test_what_a_condition_leaves_out_costs_nothing():
    """Ten parameters that exist in one configuration of two: a product would take 2 * 10**60 steps."""
    off = {f"model.hidden{i}": {**WIDE, "when": "model.depth >= 2"} for i in range(1, 11)}
    space = space_of({"model.depth": {"type": "int", "low": 1, "high": 2}, **off})
    cells = grid(space)
    assert next(cells) == {"model.depth": 1}
    assert next(cells)["model.hidden10"] == 1


def test_a_grid_that_its_constraints_empty_says_so(monkeypatch):
    monkeypatch.setattr("aiq_search.space.points._REFUSED_CELLS", 1000)
    space = space_of({"model.hidden1": WIDE}, objective={"constraints": ["model.hidden1 < 1"]})
    with pytest.raises(SpaceError, match="1,000 configurations in a row broke a constraint"):
        next(grid(space))


def test_a_grid_steps_through_real_numbers_and_choices():
    space = space_of(
        {
            "model.dropout": {"type": "float", "low": 0.0, "high": 0.3, "step": 0.1},
            "training.optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
            "training.momentum": {"type": "float", "low": 0.9, "high": 0.9},
        }
    )
    cells = list(grid(space))
    assert len(cells) == space_size(space).number == 8
    assert sorted({cell["model.dropout"] for cell in cells}) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert all(space.parameters[name].contains(value) for cell in cells for name, value in cell.items())


def test_drawn_points_lie_in_their_ranges_meet_the_constraints_and_depend_on_the_seed():
    space = space_of(
        {
            "model.hidden1": {"type": "int", "low": 2, "high": 1024, "log": True},
            "model.hidden2": {"type": "int", "low": 2, "high": 1024, "powers_of": 2},
            "training.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
            "model.dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25},
            "training.momentum": {"type": "float", "low": 0.1, "high": 0.9},
            "training.optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
        },
        objective={"constraints": ["model.hidden1 * model.hidden2 <= 1000"]},
    )
    points = list(islice(drawn(space), 100))
    for point in points:
        assert all(space.parameters[name].contains(value) for name, value in point.items())
        assert point["model.hidden1"] * point["model.hidden2"] <= 1000
    assert points == list(islice(drawn(space), 100)) != list(islice(drawn(space, 1), 100))
    rates = [math.log10(point["training.learning_rate"]) for point in points]
    assert -3 < sum(rates) / len(rates) < -2


def test_constraints_that_leave_nothing_to_draw_are_reported():
    space = space_of({"model.hidden1": WIDE}, objective={"constraints": ["model.hidden1 < 1"]})
    with pytest.raises(SpaceError, match="10,000 configurations in a row"):
        next(drawn(space))


def test_a_number_of_hundreds_of_digits_is_given_by_its_magnitude():
    space = space_of({f"model.hidden{i}": {**WIDE, "high": 10**15} for i in range(1, 400)})
    assert str(space_size(space)) == "about 10^5985 configurations"
    assert str(space_size(space_of({"model.hidden1": WIDE}))) == "1,000,000 configurations"
