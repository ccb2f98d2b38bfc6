"""``aiq new`` as a command: what it asks, what it prints, and what it refuses."""

from __future__ import annotations

import csv

import pytest
from typer.testing import CliRunner

from aiq_search.cli import new as command
from aiq_search.cli.main import app
from aiq_search.space import load_space
from tests.support.command_line import run_aiq


@pytest.fixture
def folder(tmp_path):
    with (tmp_path / "flowers.csv").open("w", newline="") as file:
        rows = [[number % 7, number % 5, ("setosa", "virginica")[number % 2]] for number in range(60)]
        csv.writer(file).writerows([["length", "width", "species"], *rows])
    return tmp_path


def aiq(folder, *arguments):
    return run_aiq(*arguments, folder=folder, environment={})


def test_without_a_terminal_nothing_is_asked_and_the_file_is_checked(folder):
    done = aiq(folder, "new", "--data", "flowers.csv", "--target", "species")
    assert (done.code, done.out) == (0, "Wrote flowers-mlp.yaml.\n")
    assert "aiq search flowers-mlp.yaml" in done.err
    checked = aiq(folder, "space", "check", "flowers-mlp")
    assert (checked.code, checked.out) == (0, "flowers-mlp: valid. flowers-mlp has 6 parameters.\n")


def test_the_default_is_digits(folder):
    assert aiq(folder, "new").out == "Wrote digits-mlp.yaml.\n"


def test_on_a_terminal_it_asks_with_defaults(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(command, "_somebody_there", lambda: True)
    result = CliRunner().invoke(app, ["new"], input="flowers.csv\n\n\n")
    assert result.exit_code == 0
    assert "Columns: length, width, species" in result.stderr
    assert "Column with the classes [species]" in result.stderr
    assert "Network [mlp]" in result.stderr
    assert load_space(folder / "flowers-mlp.yaml").dataset.target == "species"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "flowers.csv"), "--target: is required for a table"),
        (("--copy", "digist"), 'did you mean "digits"'),
        (("--copy", "digits", "--data", "mnist"), "--copy takes a space as it is"),
        (("--data", "flowers.csv", "--target", "species", "-o", "flowers.csv"), "exists already"),
        (("--data", "digits", "-o", "nowhere/x.yaml"), "cannot be written"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(folder, arguments, said):
    done = aiq(folder, "new", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_shipped_space_is_copied(folder):
    assert aiq(folder, "new", "--copy", "digits").out == "Wrote my-digits.yaml.\n"
    assert load_space(folder / "my-digits.yaml") == load_space("digits")
