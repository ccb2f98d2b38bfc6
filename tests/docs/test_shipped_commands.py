"""The shipped spaces, by the commands in their comments: from the file to a prediction."""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aiq_search.space.shipped import shipped_spaces

ROOT = Path(__file__).parents[2]
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
IMAGES = 1200
needs_fashion = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)

# A new user's `aiq`, but for the budget: two short trials, and the one format that a prediction takes.
AIQ = f"""#!/bin/sh
case $1 in
  search) set -- "$@" --trials 2 --set search.pruner=none --set training.epochs=2 --set confirm.runs=0 \\
      --set objective.constraints=[] --set confirm.require_better_than_chance=false ;;
  export) set -- "$@" --format safetensors ;;
  predict) set -- "$@" --format json ;;
esac
PYTHONPATH={ROOT} exec {sys.executable} -m aiq_search "$@"
"""


def commands_of(space):
    """The first block of commands in the comment of a shipped space."""
    text = shipped_spaces()[space].read_text("utf-8")
    (block,) = re.findall(r"\A(?:#(?!   ).*\n)*((?:#   .*\n)+)", text)
    return block.replace("#   ", "")


def run(folder, script):
    """Run commands in a folder; what they print."""
    command = folder / "bin" / "aiq"
    command.parent.mkdir()
    command.write_text(AIQ)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    environment = {
        "PATH": f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIQ_RUNNER": "in_process",
        "AIQ_DATA_DIR": str(folder / "data"),
    }
    done = subprocess.run(
        ["bash", "-e"], input=script, cwd=folder, env=environment, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def predicted(printed):
    """The labels that `aiq predict --format json` printed last."""
    return [row["label"] for row in json.loads(printed[printed.index("\n[") :])]


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize(
    ("space", "inputs", "classes"),
    [("table", 178, "012"), ("folder", 183, "0123456789"), ("signal_1d", 9, ["bump", "step", "wave"])],
)
def test_the_commands_of_a_shipped_space_lead_from_the_data_to_a_prediction(space, inputs, classes, tmp_path):
    labels = predicted(run(tmp_path, commands_of(space)))
    assert len(labels) == inputs
    assert set(labels) <= set(classes)


@pytest.mark.slow
@pytest.mark.timeout(1000)
@needs_fashion
def test_fashion_mnist_leads_to_a_prediction(tmp_path):
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in DEBIAN.glob("*.gz"):  # the first images of each split: a search of all takes minutes
        content = gzip.decompress(path.read_bytes())
        start, size = (8, 1) if "labels" in path.name else (16, 28 * 28)
        header = content[:4] + struct.pack(">I", IMAGES) + content[8:start]
        (raw / path.stem).write_bytes(header + content[start : start + IMAGES * size])
    np.save(tmp_path / "new.npy", np.zeros((3, 1, 28, 28), np.uint8))
    script = commands_of("fashion_mnist_cnn").replace("photo.png", "new.npy")
    script = script.replace(
        "search fashion_mnist_cnn", "search fashion_mnist_cnn --set dataset.validation=200"
    )
    assert len(predicted(run(tmp_path, script))) == 3
