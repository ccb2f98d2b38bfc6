import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.models import Architecture
from aiq_search.statespace import aiq
from aiq_search.training import TrainingOptions, TrainingRun, load_checkpoint, save_checkpoint
from aiq_search.training.measures import MEASURES, Measures, measure_answers, measure_of_the_commonest


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Two classes, one of them rare, hard to tell apart."""
    random = np.random.default_rng(0)
    y = (random.random(800) < 0.15).astype(int)
    x = random.normal(size=(800, 4)) + y[:, None]
    path = tmp_path_factory.mktemp("uneven") / "uneven.npz"
    np.savez(path, x_train=x, y_train=y)
    return load_dataset(DatasetOptions(name=str(path)))


def trained(dataset, epochs=2, **options):
    architecture = Architecture("mlp", {"hidden1": 4}, dataset.input_shape, len(dataset.classes))
    training = TrainingOptions(epochs=epochs, learning_rate=0.05, batch_size=50, device="cpu", **options)
    measures = Measures("balanced_accuracy", ("auroc", "balanced_accuracy", "macro_f1"))
    run = TrainingRun(architecture, dataset, training, seed=0, measures=measures)
    while not run.finished:
        run.run_epoch()
    return run


def test_measures_are_those_of_their_definitions():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(200, 7)), random.integers(7, size=200)
    labels[:120] = 0
    found = measure_answers(["balanced_accuracy", "macro_f1", "top_5"], logits, labels)
    answers = logits.argmax(axis=1)
    recalls, scores = [], []
    for number in range(7):
        right = ((answers == number) & (labels == number)).sum()
        recalls.append(right / (labels == number).sum())
        scores.append(2 * right / ((answers == number).sum() + (labels == number).sum()))
    top = [label in np.argsort(-row)[:5] for row, label in zip(logits, labels, strict=True)]
    assert found == pytest.approx(
        {"balanced_accuracy": np.mean(recalls), "macro_f1": np.mean(scores), "top_5": np.mean(top)}
    )


def test_auroc_is_the_share_of_pairs_in_order():
    random = np.random.default_rng(0)
    logits, labels = random.integers(9, size=(60, 2)), random.integers(2, size=60)
    score = logits[:, 1] - logits[:, 0]
    high, low = score[labels == 1][:, None], score[labels == 0][None]
    pairs = ((high > low) + 0.5 * (high == low)).mean()
    assert measure_answers(["auroc"], logits, labels)["auroc"] == pytest.approx(pairs)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=20), st.integers(0, 100))
def test_measures_are_from_0_to_1_even_where_a_class_is_missing(labels, seed):
    logits = np.random.default_rng(seed).normal(size=(len(labels), 2))
    names = ["auroc", "balanced_accuracy", "macro_f1"]
    found = measure_answers(names, logits, np.array(labels))
    assert all(0 <= value <= 1 for value in found.values())


@given(st.lists(st.integers(0, 50), min_size=6, max_size=9).filter(any))
def test_the_baseline_is_what_naming_the_commonest_classes_reaches(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    logits = np.tile(np.array(counts, float), (len(labels), 1))
    logits -= np.arange(len(counts)) * 1e-6  # the first of several is the commonest
    names = ["balanced_accuracy", "macro_f1", "top_5"]
    for name, value in measure_answers(names, logits, labels).items():
        assert measure_of_the_commonest(name, counts) == pytest.approx(value)


@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_the_chosen_measure_is_the_accuracy_in_aiq(uneven, engine):
    run = trained(uneven, engine=engine)
    measured = run.best.validation
    assert set(measured.measures) == {"auroc", "balanced_accuracy", "macro_f1"}
    assert measured.measures["balanced_accuracy"] < measured.accuracy
    assert measured.aiq == aiq(measured.measures["balanced_accuracy"], measured.efficiency, 2.0)
    assert run.best.metrics()["macro_f1"] == measured.measures["macro_f1"]
    assert run.evaluate_best("validation") == measured
    assert set(run.evaluate_best("test").measures) == set(measured.measures)


def test_measuring_changes_no_training(uneven):
    plain = TrainingRun(
        Architecture("mlp", {"hidden1": 4}, uneven.input_shape, 2),
        uneven,
        TrainingOptions(epochs=2, learning_rate=0.05, batch_size=50, device="cpu", engine="torch"),
        seed=0,
    )
    while not plain.finished:
        plain.run_epoch()
    assert plain.best.validation.loss == trained(uneven, engine="torch").best.validation.loss
    assert plain.best.validation.measures == {}


def test_measures_survive_a_checkpoint(uneven, tmp_path):
    run, other = trained(uneven, engine="torch"), trained(uneven, epochs=1, engine="torch")
    save_checkpoint(run, tmp_path / "checkpoint")
    load_checkpoint(other, tmp_path / "checkpoint")
    assert other.history == run.history


def test_every_measure_is_a_number_of_the_file():
    from aiq_search.space.constraint import REPORTED_NUMBERS
    from aiq_search.study.metrics import is_merit

    assert set(MEASURES) <= set(REPORTED_NUMBERS)
    assert all(map(is_merit, MEASURES))
