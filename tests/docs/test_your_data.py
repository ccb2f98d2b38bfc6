"""The tutorial "Your data": its five examples run as they are, from the file to a prediction."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.space.source import read_text
from aiq_search.user_code import CodePolicy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorials" / "your-data.md").read_text("utf-8")
SECTION = PAGE.partition("## Five kinds of data")[2]
EXAMPLES = re.findall(r"^dataset: (\{.*?\}) +# ", SECTION, re.M)
MODULE, SCRIPT = re.findall(r"```python\n(.*?)```", SECTION, re.S)
# What is classified with the network of each example, and how many samples that is.
INPUTS = [
    ("flowers.csv", 150),
    ("pictures/0", 178),
    ("signals.npy", 9),
    ("arrays.npy", 9),
    ("samples.npy", 9),
]
NEW = """
import numpy as np, mydata
np.save("signals.npy", np.load("signals.npz")["x_train"][:9])
np.save("arrays.npy", mydata.arrays()["x_train"][:9])
np.save("samples.npy", np.stack([mydata.samples()[number][0] for number in range(9)]))
"""

SPACE = """
schema_version: 1
name: mine
model: {{name: mlp}}
dataset: {example}
parameters: {{model.hidden1: {{type: int, low: 12, high: 16}}}}
search: {{trials: 1, pruner: none}}
training: {{epochs: 3, learning_rate: 0.05, batch_size: 30, engine: torch}}
confirm: {{runs: 0, require_better_than_chance: false}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the module and the data that the section shows."""
    folder = tmp_path_factory.mktemp("your-data")
    (folder / "mydata.py").write_text(MODULE)
    subprocess.run([sys.executable, "-c", SCRIPT + NEW], cwd=folder, check=True)
    return folder


def options_of(example):
    return DatasetOptions.model_validate(read_text(example, "your-data.md", {}, (), lines=False))


def aiq(folder, *arguments):
    environment = {**os.environ, "AIQ_RUNNER": "in_process", "PYTHONPATH": str(ROOT)}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "aiq_search", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )


def test_the_section_has_five_examples():
    assert [options_of(example).kind for example in EXAMPLES] == ["table", "folder", "arrays", "code", "code"]


@pytest.mark.parametrize(
    ("number", "shape", "classes"),
    [(0, (4,), 3), (1, (1, 16, 16), 10), (2, (1, 64), 10), (3, (2, 50), 2), (4, (3, 8, 8), 2)],
)
def test_each_example_is_loaded(folder, monkeypatch, number, shape, classes):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("mydata", None)
    data = load_dataset(options_of(EXAMPLES[number]), folder / "cache", CodePolicy.for_running())
    assert (data.input_shape, len(data.classes)) == (shape, classes)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_each_example_is_searched_exported_and_used(folder, tmp_path, number):
    (folder / "mine.yaml").write_text(SPACE.format(example=EXAMPLES[number]))
    options = ("--study", f"mine-{number}")
    searched = aiq(folder, "search", "mine.yaml", *options, "--data-dir", tmp_path)
    assert searched.returncode == 0, searched.stderr
    bundle = f"champion-{number}"
    exported = aiq(folder, "export", f"mine-{number}", "--output", bundle, "--format", "safetensors")
    assert exported.returncode == 0, exported.stderr
    given, samples = INPUTS[number]
    predicted = aiq(folder, "predict", bundle, given, "--format", "json")
    assert predicted.returncode == 0, predicted.stderr
    assert len(json.loads(predicted.stdout)) == samples


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "said"),
    [
        ("{name: flowers.csv, target: speices}", "mine.yaml:5: dataset.target: flowers.csv has no column"),
        ("{name: flowers.csv}", "mine.yaml:5: dataset.target: is required"),
        ("{name: pictures}", "for the folder, write pictures/"),
        ("{name: pictures/, target: x}", "mine.yaml:5: dataset.target: only a table"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(folder, example, said):
    (folder / "mine.yaml").write_text(SPACE.format(example=example))
    result = aiq(folder, "space", "check", "mine.yaml", "--data")
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
