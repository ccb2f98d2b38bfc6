"""A network of a table: its bundle takes the rows of the table."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from aiq_search.cli.main import app
from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.export import BundleContents, BundleError, load_bundle, predict, verify_bundle, write_bundle
from aiq_search.export.files import CHECKSUMS, checksums
from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, TrainingRun


def visitors(rows=300):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.integers(1, 90, rows).astype(float),
            "city": random.choice(["Bern", "Oslo", "Rome"], rows),
            "ticket": random.choice(["day", "week"], rows),
        }
    )
    frame["returns"] = np.where((frame.city == "Oslo") | (frame.age > 60), "yes", "no")
    frame.loc[::17, "age"] = np.nan
    return frame


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder with the table, and the bundle of a network trained on it."""
    folder = tmp_path_factory.mktemp("table")
    visitors().to_csv(folder / "visitors.csv", index=False)
    options = DatasetOptions(name=str(folder / "visitors.csv"), target="returns", missing="fill")
    dataset = load_dataset(options)
    architecture = Architecture("mlp", {"hidden1": 8, "hidden2": 4}, dataset.input_shape, 2)
    training = TrainingOptions(epochs=30, learning_rate=0.05, batch_size=20, engine="torch")
    run = TrainingRun(architecture, dataset, training, seed=0)
    while not run.finished:
        run.run_epoch()
    write_bundle(folder / "champion", BundleContents(architecture, run.best_weights, dataset, options))
    return folder


def test_the_same_table_is_classified_as_in_training(made):
    bundle = load_bundle(made / "champion")
    answers = predict(bundle, [made / "visitors.csv"])
    assert [answer.name for answer in answers.answers[:2]] == [
        f"{made / 'visitors.csv'} row 1",
        f"{made / 'visitors.csv'} row 2",
    ]
    right = [answer.label for answer in answers.answers] == visitors().returns
    dataset = load_dataset(bundle.dataset)
    measured = sum(
        len(dataset.split(name)) * bundle.metrics.splits[name].accuracy for name in ("validation", "test")
    )
    samples = len(dataset.validation) + len(dataset.test)
    assert right.mean() > 0.9
    assert abs(right.mean() - measured / samples) < 0.1
    verify_bundle(made / "champion")


def test_order_and_number_of_the_columns_do_not_matter(made, tmp_path):
    bundle = load_bundle(made / "champion")
    other = visitors().drop(columns="returns").assign(note="x")[["ticket", "note", "city", "age"]]
    other.to_parquet(tmp_path / "other.parquet")
    expected = [answer.probability for answer in predict(bundle, [made / "visitors.csv"]).answers]
    assert [a.probability for a in predict(bundle, [tmp_path / "other.parquet"]).answers] == expected


def test_the_encoding_is_plain_json(made):
    document = json.loads((made / "champion" / "preprocessing.json").read_text())
    assert [column["name"] for column in document["table"]["columns"]] == ["age", "city", "ticket"]
    assert document["table"]["columns"][1]["categories"] == ["Bern", "Oslo", "Rome"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age,city\n1,Bern\n", "has no column 'ticket'"),
        ("age,city,ticket\n1,,day\n", "column 'city' has no value in row 1"),
        ("age,city,ticket\nold,Bern,day\n", "column 'age' holds text, but numbers in training"),
        ("age,city,ticket\n", "no row below it"),
        ("", "expected a header"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(made, tmp_path, text, said):
    (tmp_path / "new.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        predict(load_bundle(made / "champion"), [tmp_path / "new.csv"])


def test_the_command_line_refuses_with_one_sentence_and_exit_code_2(made, tmp_path):
    (tmp_path / "new.csv").write_text("age,city\n1,Bern\n")
    result = CliRunner().invoke(app, ["predict", str(made / "champion"), str(tmp_path / "new.csv")])
    assert result.exit_code == 2 or getattr(result.exception, "exit_code", None) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table["columns"].pop(), "give 4 features, but input_shape is"),
        (lambda table: table["columns"][1].update(categories=["a", "a", "b"]), "have the same name"),
        (lambda table: table["columns"][0].update(fill="1; import os"), "valid number"),
        (lambda table: table["columns"][0].update(kind="pickle"), "kind"),
        (lambda table: table["columns"][0].update(name="\x1b[2J"), "characters that no name has"),
    ],
)
def test_a_forged_encoding_is_refused(made, tmp_path, change, said):
    files = {file.name: file.read_bytes() for file in (made / "champion").iterdir()}
    document = json.loads(files["preprocessing.json"])
    change(document["table"])
    files["preprocessing.json"] = json.dumps(document).encode()
    del files[CHECKSUMS]
    files[CHECKSUMS] = checksums(files)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleError, match=said):
        load_bundle(tmp_path)
