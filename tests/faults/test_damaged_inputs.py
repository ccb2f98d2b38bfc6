"""Damaged bundles and data files given to a command: one message, exit code 2, nothing overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_main import aiq  # noqa: F401 - a fixture
from tests.export.conftest import contents, digits, exported  # noqa: F401 - fixtures
from tests.faults.test_damaged_studies import harmed

SPACE = """
schema_version: 1
name: damaged
model: {name: mlp}
dataset: {name: DATA, validation: 10, test: 10}
parameters: {model.hidden1: {type: int, low: 2, high: 8}}
"""


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["verify", "predict", "measure"])
def test_no_command_takes_a_damaged_bundle(command, aiq, exported, tmp_path):  # noqa: F811
    np.save(tmp_path / "input.npy", np.zeros((2, 1, 8, 8), np.uint8))
    bundle = tmp_path / "bundle"
    arguments = [command, bundle, *([tmp_path / "input.npy"] if command == "predict" else [])]
    for number, name in enumerate(sorted(path.name for path in exported.iterdir()) * 4):
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(exported, bundle)
        (bundle / name).write_bytes(harmed((bundle / name).read_bytes(), number))
        before = everything_in(tmp_path)
        code, _, said = aiq(*arguments)
        assert (code, "Traceback" in said) == (2, False), (name, number, said)
        assert everything_in(tmp_path) == before


def test_no_search_begins_on_a_damaged_data_file(aiq, tmp_path):  # noqa: F811
    rng = np.random.default_rng(0)
    path = tmp_path / "data.npz"
    np.savez(path, x_train=rng.random((40, 4), np.float32), y_train=rng.integers(0, 2, 40))
    path.write_bytes(harmed(path.read_bytes(), 0))
    (tmp_path / "space.yaml").write_text(SPACE.replace("DATA", str(path)))
    before = everything_in(tmp_path)
    code, _, said = aiq("search", "space.yaml")
    assert (code, "Traceback" in said) == (2, False), said
    assert "data.npz" in said
    assert everything_in(tmp_path) == before
