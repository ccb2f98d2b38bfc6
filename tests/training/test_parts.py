"""An epoch in parts is the epoch, and a checkpoint inside it changes nothing."""

import pytest
import torch

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, TrainingRun, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


@pytest.fixture(params=["torch", "compiled"])
def begin(request, digits):
    arguments = {"hidden1": 12, "hidden2": 8, "dropout": 0.1, "batch_norm": True}
    architecture = Architecture("mlp", arguments, digits.input_shape, 10)

    def run(seed=1, optimizer="sgd"):
        options = TrainingOptions(
            epochs=3, batch_size=50, learning_rate=0.01, optimizer=optimizer, engine=request.param
        )
        return TrainingRun(architecture, digits, options, seed=seed)

    return run


def finish(run):
    while not run.finished:
        run.run_epoch()
    return run


def assert_same(run, other):
    assert run.history == other.history
    assert run.best == other.best
    assert all(torch.equal(run.best_weights[name], t) for name, t in other.best_weights.items())
    assert all(torch.equal(t, run.model.state_dict()[name]) for name, t in other.model.state_dict().items())


def test_an_epoch_in_parts_is_the_epoch_bit_for_bit(begin):
    whole = finish(begin())
    parted = begin()
    for shares in ((0.125, 0.25, 0.5), (), (0.3, 0.3, 0.99)):
        for share in shares:
            parted.run_part(share, 100)
        parted.run_epoch()
    assert_same(parted, whole)


def test_a_part_tells_how_much_was_learnt_and_measures_on_the_first_samples(begin, digits):
    run = begin()
    batches = [50] * (len(digits.train) // 50) + [len(digits.train) % 50]
    first = run.run_part(0.25, 100)
    assert first.samples == 50 * round(0.25 * len(batches))
    assert first.validation.samples == 100
    assert first.metrics().keys() == run.run_epoch().metrics().keys()
    assert run.run_part(0.001, 10_000).samples == len(digits.train) + 50
    assert run.run_part(0.999, 10_000).validation.samples == 360
    assert run.epoch == 1


def test_measuring_a_part_on_everything_is_measuring_on_the_split(begin):
    run = begin()
    part = run.run_part(0.999, 360)
    assert part.validation == run.run_epoch().validation


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_checkpoint_inside_an_epoch_changes_nothing_bit_for_bit(tmp_path, begin, optimizer):
    whole = finish(begin(optimizer=optimizer))
    for epochs in (0, 1):
        interrupted = begin(optimizer=optimizer)
        for _ in range(epochs):
            interrupted.run_epoch()
        interrupted.run_part(0.4, 50)
        save_checkpoint(interrupted, tmp_path / "checkpoint")
        torch.manual_seed(5)
        resumed = begin(seed=99, optimizer=optimizer)
        load_checkpoint(resumed, tmp_path / "checkpoint")
        assert_same(finish(resumed), whole)


@pytest.mark.parametrize(("share", "samples"), [(0.0, 10), (1.0, 10), (-0.5, 10), (0.5, 0)])
def test_a_part_that_is_none_is_refused(begin, share, samples):
    with pytest.raises(ValueError, match="must hold"):
        begin().run_part(share, samples)
