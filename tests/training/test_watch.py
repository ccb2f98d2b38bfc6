"""Splits that are only watched are measured after every epoch, and change nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.models import Architecture
from aiq_search.space import load_space
from aiq_search.training import TrainingOptions, TrainingRun, load_checkpoint, save_checkpoint
from aiq_search.training.measures import Measures


@pytest.fixture(scope="module")
def noisy():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360, label_noise=0.75))


@pytest.fixture(params=["torch", "compiled"])
def begin(request, noisy):
    architecture = Architecture("mlp", {"hidden1": 12, "dropout": 0.1}, noisy.input_shape, 10)

    def run(watch=("train", "test"), seed=1, **more):
        options = TrainingOptions(epochs=3, batch_size=50, learning_rate=0.05, engine=request.param)
        return TrainingRun(architecture, noisy, options, seed=seed, watch=watch, **more)

    return run


def finish(run):
    while not run.finished:
        run.run_epoch()
    return run


def test_watching_changes_nothing(begin):
    watching, plain = finish(begin()), finish(begin(watch=()))
    assert [replace(result, watched={}) for result in watching.history] == plain.history
    assert all(torch.equal(t, plain.best_weights[name]) for name, t in watching.best_weights.items())


def test_the_numbers_are_those_of_the_splits(begin, noisy):
    run = finish(begin(measures=Measures("accuracy", ("macro_f1",))))
    last = run.history[-1]
    run.best_weights = dict(run.model.state_dict())
    for split in ("train", "test"):
        assert last.watched[split] == run.evaluate_best(split)
        assert last.watched[split].samples == len(noisy.split(split))
    metrics = last.metrics()
    assert metrics["watch/test/accuracy"] == last.watched["test"].accuracy
    assert metrics["watch/train/macro_f1"] == last.watched["train"].measures["macro_f1"]
    assert {name for name in metrics if name.startswith("watch/")} == {
        f"watch/{split}/{name}"
        for split in ("train", "test")
        for name in ("accuracy", "aiq", "efficiency", "loss", "macro_f1")
    }


def test_with_label_noise_the_training_split_has_the_randomised_labels_and_the_test_split_the_true_ones(
    begin, noisy
):
    true = load_dataset(DatasetOptions(name="digits", validation=360, test=360))
    assert (noisy.train.labels != true.train.labels).mean() > 0.5
    assert np.array_equal(noisy.test.labels, true.test.labels)
    last = finish(begin()).history[-1].watched
    assert last["test"].accuracy > last["train"].accuracy + 0.2


def test_a_checkpoint_keeps_what_was_watched(tmp_path, begin):
    whole = finish(begin())
    broken = begin()
    broken.run_epoch()
    save_checkpoint(broken, tmp_path / "checkpoint")
    resumed = begin(seed=9)
    load_checkpoint(resumed, tmp_path / "checkpoint")
    assert finish(resumed).history == whole.history


def test_what_is_watched_is_no_part_of_what_is_searched_and_cannot_be_chosen_by():
    document = {
        "schema_version": 1,
        "name": "s",
        "model": {"name": "mlp"},
        "dataset": {"name": "digits"},
        "parameters": {"model.hidden1": {"type": "int", "low": 2, "high": 8}},
    }
    watching = {**document, "dataset": {"name": "digits", "watch": ["train", "test"]}}
    assert load_space(watching).fingerprint == load_space(document).fingerprint
    with pytest.raises(ValueError, match=r"dataset\.watch"):
        load_space({**document, "dataset": {"name": "digits", "watch": ["validation"]}})
    for objective in ({"maximize": "watch/test/accuracy"}, {"constraints": ["watch/test/accuracy >= 0.5"]}):
        with pytest.raises(ValueError, match="objective"):
            load_space({**watching, "objective": objective})
