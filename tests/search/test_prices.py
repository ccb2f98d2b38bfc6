"""Proposals that know their price."""

import statistics

import optuna
import pytest
import torch

from aiq_search.models import Architecture, model_size
from aiq_search.search.driver import StudyDriver
from aiq_search.search.prices import PricedSampler, with_prices
from aiq_search.search.samplers import create_sampler
from aiq_search.space import load_space
from aiq_search.study import Phase, Study, TrialKey
from aiq_search.study.document import DatasetDescription
from tests.search.reports import report_of
from tests.search.simulation import simulated_space

SHAPE = (1, 28, 28)
MNIST = DatasetDescription(
    name="mnist",
    digest="",
    train=50_000,
    validation=10_000,
    test=10_000,
    input_shape=SHAPE,
    input_dtype="uint8",
    classes=tuple("0123456789"),
)
LENET_5 = "search_spaces/lenet_5.yaml"


def sampler_of(space, data=MNIST, seed=0):
    plain = create_sampler(space.search.sampler, seed, conditional=space.conditional)
    return plain, with_prices(plain, space, data)


def asked(space, sampler, number=10, value=lambda params: 0.0):
    """What a sampler proposes, one after the other."""
    study = optuna.create_study(sampler=sampler, direction="maximize")
    points = []
    for _ in range(number):
        trial = study.ask()
        points.append(space.suggest(trial))
        study.tell(trial, value(points[-1]))
    return points


def macs(space, point):
    network = Architecture(space.model.name, space.model_arguments(point), SHAPE, 10).build()
    return model_size(network, SHAPE).macs


def test_start_up_costs_less_than_half_and_still_tries_wide_networks():
    space = load_space(LENET_5)
    plain, priced = [], []
    for seed in range(4):
        for points, sampler in zip((plain, priced), sampler_of(space, seed=seed), strict=True):
            points += [macs(space, point) for point in asked(space, sampler)]
    assert statistics.fmean(priced) < statistics.fmean(plain) / 2
    assert max(priced) > 4 * statistics.median(priced)


def test_where_wide_is_best_proposals_become_wide():
    space = load_space(LENET_5)
    names = ("model.conv1", "model.conv2", "model.fc")
    _, priced = sampler_of(space)

    def width(point):
        return statistics.geometric_mean([point[name] for name in names])

    points = asked(space, priced, 60, value=lambda point: width(point) - 10 * point["model.dropout"])
    assert statistics.median(map(width, points[-10:])) > 3 * statistics.median(map(width, points[:10]))
    assert max(map(width, points)) > 150


@pytest.mark.parametrize(
    ("edits", "train"),
    [
        (["search.sampler=random"], 50_000),
        (["search.sampler=gp"], 50_000),
        ([], 10_000),
        (["training.batch_size=5000"], 50_000),
        (["model.name=a.package:network"], 50_000),
    ],
)
def test_prices_are_regarded_only_where_that_pays(edits, train):
    space = load_space(LENET_5, edits)
    plain, sampler = sampler_of(space, MNIST.model_copy(update={"train": train}))
    assert sampler is plain
    assert isinstance(sampler_of(load_space(LENET_5))[1], PricedSampler)


def test_a_configuration_that_cannot_be_built_is_proposed_as_it_is():
    space = load_space(LENET_5, ["model.activation=elu", "model.no_such_argument=1"])
    plain, priced = sampler_of(space)
    assert asked(space, plain) == asked(space, priced)


def test_the_seed_fixes_the_proposals_and_the_random_state_of_a_trial_is_left_alone():
    space = load_space(LENET_5)
    before = torch.get_rng_state()
    assert asked(space, sampler_of(space)[1], 15) == asked(space, sampler_of(space)[1], 15)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_enqueued_configuration_is_taken_as_it_is():
    space = load_space(LENET_5)
    study = optuna.create_study(sampler=sampler_of(space)[1], direction="maximize")
    point = {name: 256 for name in ("model.conv1", "model.conv2", "model.fc")}
    study.enqueue_trial(space.encode(point))
    proposed = space.suggest(study.ask())
    assert {name: proposed[name] for name in point} == point


@pytest.mark.parametrize("before", [0, 1, 12, 15])
def test_a_driver_killed_between_two_draws_draws_the_second_as_it_would_have(tmp_path, monkeypatch, before):
    def proposed(name, number):
        """A study after so many trials, and its driver."""
        space = simulated_space(search={"sampler": "tpe", "trials": 30})
        study = Study.create(tmp_path, space, MNIST, name)
        driver = StudyDriver(study)
        driver.begin()
        for _ in range(number):
            assignment = driver.next_assignment()
            for epoch in range(1, 5):
                driver.report(TrialKey.parse(assignment.key), report_of(assignment, epoch))
        return study, driver

    whole, driver = proposed("whole", before)
    driver.next_assignment()
    study, killed = proposed("killed", before)
    write, written = study.storage.set_trial_param, []

    def dies_at_the_second(*args):
        written.append(args)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(study.storage, "set_trial_param", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        killed.next_assignment()
    again = StudyDriver(Study.open("killed", tmp_path))
    again.begin()
    again.next_assignment()
    assert (
        study.refreshed().record(Phase.EXPLORE, before).params == whole.record(Phase.EXPLORE, before).params
    )
