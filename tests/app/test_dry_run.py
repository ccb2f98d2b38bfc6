"""What a dry run estimates: the costs of networks, and how long a search will take."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from aiq_search.app.dry_run import dry_run
from aiq_search.app.forecast import Costs, Shape, Timing, fit, simulate
from aiq_search.app.options import RunOptions
from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.space import load_space
from aiq_search.study import Study
from tests.support.made_up import made_up

SPACES = Path("search_spaces")
SHAPES = [
    Shape(macs, outputs, {"conv1": 4, "conv2": 4, "fc": 8}, 100, 400)
    for macs, outputs in (
        (35_000, 1500),
        (80_000, 6000),
        (400_000, 3000),
        (1_000_000, 10_000),
        (6_000_000, 9000),
    )
]


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


@pytest.mark.parametrize(
    "true", [(1e-6, 2e-11, 1e-9), (0.0, 5e-11, 0.0), (3e-6, 0.0, 0.0), (0.0, 1e-11, 4e-9)]
)
def test_the_costs_of_timed_networks_are_found_and_none_is_negative(true):
    costs = Costs(true, [weight / 3 for weight in true])
    timings = [Timing(s, costs.seconds(s, 1, 0), costs.seconds(s, 0, 1)) for s in SHAPES]
    found = fit(timings)
    assert found.learning == pytest.approx(true, rel=1e-6, abs=1e-18)
    assert found.measuring == pytest.approx(costs.measuring, rel=1e-6, abs=1e-18)
    noisy = fit([replace(t, learning=t.learning * (1.1 if i % 2 else 0.9)) for i, t in enumerate(timings)])
    assert min(noisy.learning) >= 0
    assert noisy.seconds(SHAPES[2], 1, 0) == pytest.approx(costs.seconds(SHAPES[2], 1, 0), rel=0.25)


def test_one_timed_network_is_enough():
    found = fit([Timing(SHAPES[0], 1e-5, 2e-6)])
    assert found.seconds(SHAPES[0], 100, 10) == pytest.approx(1e-3 + 2e-5)


def simulated(digits, edits=(), costs=(1e-4, 0.0, 0.0), slots=2):
    space = load_space(
        SPACES / "digits.yaml", ["search.trials=12", "confirm.runs=4", "confirm.seeds=2", *edits]
    )
    shape = Shape(1000, 50, {"hidden1": 8, "hidden2": 4}, 100, 400)
    return simulate(space, digits, lambda arguments: shape, Costs(costs, costs), slots)


def test_a_simulated_search_takes_what_its_epochs_and_its_trials_take(digits):
    """Without a pruner 12 trials of 20 epochs, then at least MIN_SEEDS of the race and two further ones."""
    edits = ["search.pruner=none", "training.patience=null"]
    free = simulated(digits, edits, (0.0, 0.0, 0.0), slots=1)
    trials = (free - 0.3) / (0.3 + 19 * 0.02)
    assert 12 + 3 + 2 - 1 < trials < 12 + 10 + 2 + 1
    dear = simulated(digits, edits, (1e-3, 0.0, 0.0), slots=1) - free
    epoch = 1e-3 * (1077 + 360)
    assert (12 + 3 + 2) * 20 * epoch < dear < (12 + 10 + 2) * 20 * epoch * 1.1


def test_slots_and_pruning_shorten_a_search_and_more_trials_lengthen_it(digits):
    unpruned = simulated(digits, ["search.pruner=none"], slots=1)
    assert unpruned / 2.4 < simulated(digits, ["search.pruner=none"], slots=2) < unpruned
    assert simulated(digits, slots=1) < unpruned
    assert simulated(digits, ["search.trials=600"]) > 5 * simulated(digits, ["search.trials=60"])


GRID = [
    "search.sampler=grid",
    "search.pruner=none",
    "search.trials=100000",
    "confirm.runs=0",
    "training.patience=null",
    "training.epochs=2",
    "objective.constraints=[]",
    "enqueue=[]",
]


def test_a_grid_takes_what_its_cells_take_on_each_seed_however_many_trials_it_may_have(digits):
    width = {"model.hidden1": {"type": "int", "low": 2, "high": 64, "powers_of": 2}}
    edits = [f"parameters={json.dumps(width)}", *GRID]
    estimate = dry_run(SPACES / "digits.yaml", RunOptions(overrides=(*edits, "search.replicates=20")))
    assert estimate.trials == 6 * 20
    assert estimate.expected_hours < 0.2
    space = load_space(SPACES / "digits.yaml", [*edits, "search.replicates=20", "search.trials=120"])
    shapes = {2**n: Shape(2**n, 50, {"hidden1": 2**n}, 100, 400) for n in range(1, 7)}
    costs = Costs((0.0, 1e-4, 0.0), (0.0, 0.0, 0.0))
    seconds = simulate(space, digits, lambda arguments: shapes[arguments["hidden1"]], costs, 1)
    trained = 20 * sum(shapes) * 1e-4 * len(digits.train) * 2
    assert trained < seconds < 1.3 * trained + 120 * 0.34


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_cnn", "fashion_mnist_cnn", "mnist_smallest"])
def test_the_shipped_spaces_of_convolutional_networks_are_estimated(name, monkeypatch):
    monkeypatch.setattr("aiq_search.app.dry_run.load_data", lambda space, *_: made_up(space.dataset.name))
    estimate = dry_run(SPACES / f"{name}.yaml", RunOptions())
    assert 0 < estimate.hours[0] < estimate.hours[1]
    assert estimate.narrowest.parameters < estimate.widest.parameters


def test_a_dry_run_is_one_estimate_with_a_range_in_seconds():
    begun = time.process_time()
    estimate = dry_run(SPACES / "digits.yaml", RunOptions())
    assert time.process_time() - begun < 15
    assert estimate.hours[0] < estimate.expected_hours < estimate.hours[1] < 3 * estimate.hours[0]
    assert estimate.narrowest.epoch_seconds < estimate.widest.epoch_seconds
    assert estimate.narrowest.parameters == 166


def test_a_dry_run_refuses_what_a_search_could_not_start_from(tmp_path, digits):
    options = RunOptions(home=tmp_path, warm_start=["earlier"])
    with pytest.raises(InputError, match="earlier"):
        dry_run(SPACES / "digits.yaml", options)
    other = load_space(SPACES / "digits.yaml", ["objective.beta=3"])
    Study.create(tmp_path, other, digits.description(), "earlier")
    with pytest.raises(InputError, match="asked another question"):
        dry_run(SPACES / "digits.yaml", options)
    with pytest.raises(InputError, match="nowhere"):
        dry_run(
            SPACES / "digits.yaml", replace(options, warm_start=[f"sqlite:///{tmp_path}/nowhere.db?study=x"])
        )
