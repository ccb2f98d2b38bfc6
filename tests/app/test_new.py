"""``aiq new``: a file that passes every check, with its comments, whatever the data are called."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiq_search.app.new import copy_space, look_at_data, suggested_file, write_space
from aiq_search.app.options import RunOptions
from aiq_search.app.space import checked_space, shipped_spaces, tried_space
from aiq_search.errors import InputError
from aiq_search.models import MODELS
from aiq_search.space import load_space
from aiq_search.user_code import CodePolicy

# Data that each network can be trained on.
FITTING = {
    "cnn": "cifar10",
    "cnn_1d": "signals.npz",
    "lenet_300_100": "fashion_mnist",
    "lenet_5": "mnist",
    "mlp": "flowers.csv",
    "mobilenet_v2": "cifar10",
    "resnet": "cifar100",
}


def frame(rows=60, **columns):
    random = np.random.default_rng(0)
    measured = {"length": random.normal(size=rows), "width": random.normal(size=rows)}
    return pd.DataFrame({**measured, **columns, "species": np.resize(["setosa", "virginica"], rows)})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    frame().to_csv("flowers.csv", index=False)
    signals = np.random.default_rng(0).normal(size=(60, 2, 64))
    np.savez("signals.npz", x_train=signals, y_train=np.arange(60) % 3)
    return tmp_path


def written(folder, data, model=None, target=None):
    """The text of a new file, which must pass the check."""
    code = CodePolicy.for_running()
    facts = look_at_data(data, target, code)
    write_space(folder / "my.yaml", model or facts.model, facts, code=code)
    checked_space(folder / "my.yaml")
    return (folder / "my.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", list(MODELS))
def test_each_network_has_a_file_that_passes_the_check_and_keeps_its_comments(folder, model):
    data = FITTING[model]
    text = written(folder, data, model, "species" if data.endswith(".csv") else None)
    space = load_space(folder / "my.yaml")
    assert (space.model.name, space.dataset.name, space.name) == (model, data, "my")
    assert any(name.startswith("model.") for name in space.parameters)
    comments = [line for line in text.splitlines() if "#" in line]
    assert len(comments) > 20
    assert not any(line.endswith(" ") for line in text.splitlines())
    assert text.endswith("\n")


@pytest.mark.parametrize(("data", "target"), [("flowers.csv", "species"), ("signals.npz", None)])
def test_the_file_can_be_trained_on_its_data(folder, data, target):
    written(folder, data, target=target)
    checked = tried_space(folder / "my.yaml", RunOptions())
    assert sum("Trained for one step" in note for note in checked.notes) == 2


def test_what_a_network_cannot_learn_from_is_left_out_and_gaps_are_filled(folder):
    table = frame(id=range(1, 61), who=[f"flower {n}" for n in range(60)], nothing=None, site=["a", "b"] * 30)
    table.loc[3, "length"] = None
    table.to_csv("flowers.csv", index=False)
    text = written(folder, "flowers.csv", target="species")
    options = load_space(folder / "my.yaml").dataset
    assert options.drop == ("id", "who", "nothing")
    assert options.missing == "fill"
    assert "1 row without a value" in text


def test_rows_without_a_class_are_left_out(folder):
    table = frame()
    table.loc[7, "species"] = None
    table.to_csv("flowers.csv", index=False)
    written(folder, "flowers.csv", target="species")
    assert load_space(folder / "my.yaml").dataset.missing == "drop"


def test_uneven_classes_are_pointed_out(folder):
    table = frame()
    table.loc[:49, "species"] = "setosa"
    table.to_csv("flowers.csv", index=False)
    assert "# accuracy: balanced_accuracy" in written(folder, "flowers.csv", target="species")


@pytest.mark.parametrize("odd", ["no", "a: b", "# x", "é, [1]", '"quoted"', "{{ 7 * 7 }}", "1.5"])
def test_odd_names_of_columns_and_files_survive(folder, odd):
    table = frame().rename(columns={"species": odd})
    (folder / "odd, # name").mkdir()
    table.to_csv("odd, # name/no.csv", index=False)
    written(folder, "odd, # name/no.csv", target=odd)
    options = load_space(folder / "my.yaml").dataset
    assert (options.name, options.target) == ("odd, # name/no.csv", odd)


def test_an_own_network_is_asked_for_its_arguments(folder):
    (folder / "mynet.py").write_text(
        "from torch import nn\n"
        "def tiny(input_shape, classes, width=8, bias=True, rate=0.5):\n"
        "    first = nn.Linear(input_shape[0], width, bias)\n"
        "    return nn.Sequential(first, nn.ELU(), nn.Linear(width, classes))\n"
    )
    written(folder, "flowers.csv", "mynet:tiny", "species")
    parameters = load_space(folder / "my.yaml").parameters
    assert (parameters["model.width"].low, parameters["model.width"].high) == (2, 32)
    assert parameters["model.bias"].choices == (False, True)
    assert "model.rate" not in parameters


def test_a_folder_of_pictures_is_resized(folder):
    from PIL import Image

    for number in range(40):
        where = folder / "pictures" / ("cat", "dog")[number % 2]
        where.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 30), (number, 2 * number, 0)).save(where / f"{number}.png")
    written(folder, "pictures/")
    space = load_space(folder / "my.yaml")
    assert (space.dataset.size, space.model.name) == (32, "cnn")


@pytest.mark.parametrize(
    ("data", "model", "target", "said"),
    [
        ("flowers.csv", "mlp", None, "--target: is required for a table"),
        ("flowers.csv", "mlp", "speices", 'did you mean "species"'),
        ("flowers.csv", "lenet_5", "species", "lenet_5"),
        ("digits", "mlp", "species", "--target: only a table has it"),
        ("digit", "mlp", None, 'did you mean "digits"'),
        ("digits", "mlq", None, 'did you mean "mlp"'),
        ("nothing.csv", "mlp", "x", "nothing.csv: cannot be read"),
        ("dig\nits", "mlp", None, "printable"),
        ("digits", "elsewhere:net", None, "elsewhere"),
    ],
)
def test_a_mistake_is_one_message_and_writes_nothing(folder, data, model, target, said):
    with pytest.raises(InputError, match=said):
        written(folder, data, model, target)
    assert not (folder / "my.yaml").exists()


def test_a_file_is_replaced_only_with_force(folder):
    first = written(folder, "digits")
    with pytest.raises(InputError, match="exists already"):
        written(folder, "digits", "lenet_300_100")
    assert (folder / "my.yaml").read_text() == first
    write_space(folder / "my.yaml", "lenet_300_100", look_at_data("digits"), force=True)
    assert "lenet_300_100" in (folder / "my.yaml").read_text()


def test_a_shipped_space_is_copied_as_it_is(folder):
    copy_space("lenet_5", folder / "mine.yaml")
    assert (folder / "mine.yaml").read_text() == shipped_spaces()["lenet_5"].read_text()
    with pytest.raises(InputError, match="exists already"):
        copy_space("digits", folder / "mine.yaml")


@pytest.mark.parametrize(
    ("data", "model", "name"),
    [
        ("a b/c d.csv", "mlp", "c-d-mlp"),
        ("mydata:samples", "m:net", "samples-net"),
        ("pictures/", "cnn", "pictures-cnn"),
    ],
)
def test_the_suggested_file_is_named_after_data_and_network(data, model, name):
    assert suggested_file(data, model).stem == name
