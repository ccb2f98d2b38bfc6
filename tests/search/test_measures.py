"""What a space measures beside accuracy: what it asks for, what is refused, and what chance reaches."""

from types import SimpleNamespace

import numpy as np
import pytest

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.search.preflight import preflight
from aiq_search.space import SpaceError, load_space
from aiq_search.study import Spread
from aiq_search.study.chance import chance_problem

SPACE = {
    "schema_version": 1,
    "name": "tiny",
    "model": {"name": "mlp"},
    "dataset": {"name": "digits"},
    "parameters": {"model.hidden1": {"type": "int", "low": 4, "high": 8}},
    "training": {"epochs": 1, "engine": "torch"},
}


def space(**objective):
    return load_space({**SPACE, "objective": objective})


@pytest.mark.parametrize(
    ("objective", "measures"),
    [
        ({}, ()),
        ({"accuracy": "macro_f1"}, ("macro_f1",)),
        ({"maximize": "top_5"}, ("top_5",)),
        ({"constraints": ["auroc >= 0.9", "accuracy >= 0.5"]}, ("auroc",)),
        (
            {"accuracy": "balanced_accuracy", "constraints": ["macro_f1 >= 0.1", "balanced_accuracy >= 0.1"]},
            ("balanced_accuracy", "macro_f1"),
        ),
    ],
)
def test_what_the_objective_and_the_constraints_name_is_measured(objective, measures):
    assert space(**objective).objective.measures == measures


def test_plain_accuracy_is_no_part_of_a_fingerprint_and_another_is():
    assert "accuracy" not in space().fingerprinted["objective"]
    assert space().fingerprint == space(accuracy="accuracy").fingerprint
    assert space().fingerprint != space(accuracy="macro_f1").fingerprint


def test_fields_of_other_data_are_no_part_of_a_fingerprint():
    assert set(space().fingerprinted["dataset"]) == {
        "name",
        "validation",
        "test",
        "split_seed",
        "label_noise",
    }


@pytest.mark.parametrize(
    ("classes", "objective", "said"),
    [
        (3, {"accuracy": "auroc"}, "auroc is for two classes, but .* has 3"),
        (5, {"constraints": ["top_5 >= 0.5"]}, "top_5 is always 1 for 5 classes"),
        (1, {"accuracy": "auroc"}, "auroc needs samples of both classes"),
    ],
)
def test_a_measure_that_means_nothing_for_the_classes_is_refused(tmp_path, classes, objective, said):
    x = np.random.default_rng(0).normal(size=(60, 3))
    y = np.arange(60) % classes
    if classes == 1:
        y[0] = 1
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y)
    data = load_dataset(DatasetOptions(name=str(tmp_path / "data.npz")))
    with pytest.raises(SpaceError, match=said):
        preflight(space(**objective), data)


@pytest.mark.parametrize(
    ("name", "reached", "better"),
    [
        ("accuracy", 0.85, False),
        ("accuracy", 0.95, True),
        ("balanced_accuracy", 0.52, True),
        ("balanced_accuracy", 0.49, False),
        ("auroc", 0.6, True),
        ("macro_f1", 0.46, False),
        ("macro_f1", 0.5, True),
    ],
)
def test_a_champion_is_compared_with_chance_by_its_own_measure(name, reached, better):
    dataset = SimpleNamespace(majority=lambda split: 0.9, class_counts={"validation": (90, 10)})
    document = SimpleNamespace(dataset=dataset, space=space(accuracy=name))
    champion = SimpleNamespace(trial=0, validation={name: Spread.of([reached, reached])})
    problem = chance_problem(document, champion)
    assert (problem is None) == better
    assert problem is None or f"its {name} is" in problem
