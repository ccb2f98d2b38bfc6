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
    assert "test split, N = 359; states after each layer" in result.stdout
    assert "Warning: Layer 'hidden1' is saturated" in " ".join(result.stderr.split())
    assert "Warning" not in result.stdout


def test_a_mistake_is_an_input_error(app):
    with pytest.raises(InputError, match="beta"):
        run(app, "--beta", "0")
