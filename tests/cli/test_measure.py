import csv
import io
import json

import pytest
import typer
from typer.testing import CliRunner

from aiq_search.cli.measure import measure
from aiq_search.errors import InputError


@pytest.fixture(scope="module")
def app():
    app = typer.Typer()
    app.command()(measure)
    return app


def run(app, *arguments):
    return CliRunner().invoke(app, ["lenet_300_100", "--data", "digits", *arguments], catch_exceptions=False)


def test_json_is_one_document_on_stdout_and_warnings_are_in_it(app):
    result = run(app, "--format", "json", "--beta", "3")
    document = json.loads(result.stdout)
    assert document["beta"] == 3
    assert [layer["name"] for layer in document["layers"]] == ["hidden1", "hidden2"]
    assert len(document["warnings"]) == 2


def test_csv_has_a_row_a_layer(app):
    rows = list(csv.DictReader(io.StringIO(run(app, "--format", "csv", "--layer", "hidden2").stdout)))
    assert [(row["name"], row["neurons"]) for row in rows] == [("hidden2", "100")]


def test_the_table_says_what_the_number_rests_on_and_warns_on_stderr(app):
    result = run(app)
    assert "test split, N = 359; states after each hidden layer" in result.stdout
    assert "Warning: Layer 'hidden1' is saturated" in " ".join(result.stderr.split())
    assert "Warning" not in result.stdout


def test_a_mistake_is_an_input_error(app):
    with pytest.raises(InputError, match="beta"):
        run(app, "--beta", "0")


def test_of_many_warnings_a_person_is_shown_a_few(tmp_path):
    import numpy as np

    draw = np.random.default_rng(0)
    np.savez(
        tmp_path / "photos.npz",
        x_train=draw.integers(0, 256, (60, 3, 64, 64), np.uint8),
        y_train=np.arange(60) % 3,
    )
    app = typer.Typer()
    app.command()(measure)
    deep = ["torchvision.models:resnet18", "--set", "num_classes=3", "--data", str(tmp_path / "photos.npz")]
    result = CliRunner().invoke(app, deep, catch_exceptions=False)
    assert result.stderr.count("Warning: ") == 3
    assert "more warnings; --format json has them all." in result.stderr
