"""Data that cannot be used, by the command line: one sentence, exit code 2, no traceback."""

from __future__ import annotations

import os
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.command_line import run_aiq

SPACE = """schema_version: 1
name: mine
model: {{name: mlp}}
dataset: {}
parameters: {{model.hidden1: {{type: int, low: 2, high: 4}}}}
"""


def picture(path, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side), 90, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(40):
        picture(tmp_path / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png")
    frame = pd.DataFrame({"length": range(40), "species": ["iris", "rose"] * 20, "one": 1})
    frame.to_csv(tmp_path / "flowers.csv", index=False)
    frame.to_parquet(tmp_path / "flowers.parquet")
    return tmp_path


def damaged(folder):
    path = folder / "pictures" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:45])


def no_picture(folder):
    (folder / "pictures" / "dog" / "1.png").write_text("not a picture")


def mixed(folder):
    picture(folder / "pictures" / "dog" / "1.png", side=9)


def empty(folder):
    (folder / "pictures" / "mouse").mkdir()


def unchanged(folder):
    """The mistake is in the file."""


@pytest.mark.parametrize(
    ("spoil", "dataset", "said"),
    [
        (damaged, "{name: pictures/}", r"pictures/cat/0\.png"),
        (no_picture, "{name: pictures/, size: 8}", r"pictures/dog/1\.png"),
        (mixed, "{name: pictures/}", r"pictures/dog/1\.png.*9x9"),
        (empty, "{name: pictures/}", r"pictures/mouse"),
        (unchanged, "{name: flowers.csv, target: speices}", 'no column .*did you mean "species"'),
        (unchanged, "{name: flowers.csv, target: species, drop: [lenght]}", 'did you mean "length"'),
        (unchanged, "{name: flowers.parquet, target: speices}", 'no column .*did you mean "species"'),
        (unchanged, "{name: flowers.csv, target: one}", "column 'one': every sample has the label '1'"),
    ],
)
@pytest.mark.parametrize("command", [("space", "check", "mine.yaml", "--data"), ("search", "mine.yaml")])
def test_it_is_one_sentence_with_file_and_line(folder, spoil, dataset, said, command):
    spoil(folder)
    (folder / "mine.yaml").write_text(SPACE.format(dataset))
    environment = {
        "AIQ_DATA_DIR": str(folder / "data"),
        "AIQ_RUNNER": "in_process",
        "PATH": os.environ["PATH"],
    }
    done = run_aiq(*command, folder=folder, environment=environment)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("mine.yaml:4: dataset")
    assert not list(folder.glob(".aiq/studies/*"))
    assert re.search(said, done.err), done.err
