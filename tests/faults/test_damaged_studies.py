"""Damaged study.json, journals, checkpoints and data: a sentence, exit code 2, and nothing overwritten."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from typer.testing import CliRunner

from aiq_search.cli.main import app
from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.study import Phase, Study
from aiq_search.study.storage import cut_torn_tail
from aiq_search.training import CheckpointError
from aiq_search.training.checkpoint import load_weights, save_weights
from tests.search.simulation import finish, new_study
from tests.study.test_document import wrong_documents

FLIPS = 100


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    study = new_study(tmp_path_factory.mktemp("home"), search={"trials": 4}, confirm={"finalists": 0})
    finish(study)
    return study


def harmed(data: bytes, number: int) -> bytes:
    """Cut, flipped or overwritten somewhere; the number fixes how."""
    chance = random.Random(number)
    place = chance.randrange(len(data))
    match number % 4:
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
        case 2:
            return data[:place] + chance.randbytes(20) + data[place + 20 :]
    lines = data.split(b"\n")
    del lines[chance.randrange(len(lines))]
    return b"\n".join(lines)


def look(home: Path) -> str:
    """All that looking at a study and taking it up read; what it was refused with."""
    try:
        study = Study.open("study", home)
        study.records()
        study.champion()
        study.load(Phase.EXPLORE)
    except AiqError as error:
        return type(error).__name__
    return "understood"


def test_a_damaged_journal_is_understood_or_refused_and_left_as_it_is(whole, tmp_path):
    directory = tmp_path / "studies" / "study"
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "study.json").write_bytes((whole.directory / "study.json").read_bytes())
    outcomes = Counter()
    for number in range(FLIPS):
        data = harmed(whole.journal.read_bytes(), number)
        (directory / "study.journal").write_bytes(data)
        outcomes[look(tmp_path)] += 1
        assert (directory / "study.journal").read_bytes() == data
    assert outcomes["StudyError"] > FLIPS / 5


def test_a_damaged_study_json_is_understood_or_refused_and_left_as_it_is(whole, tmp_path):
    directory = tmp_path / "studies" / "study"
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "study.journal").write_bytes(whole.journal.read_bytes())
    outcomes = Counter()
    for number in range(FLIPS):
        data = harmed((whole.directory / "study.json").read_bytes(), number)
        (directory / "study.json").write_bytes(data)
        outcomes[look(tmp_path)] += 1
        assert (directory / "study.json").read_bytes() == data
    assert outcomes["StudyError"] > FLIPS / 5


@settings(max_examples=50, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(wrong_documents())
def test_no_command_shows_a_traceback_for_a_wrong_study_json(whole, tmp_path, monkeypatch, content):
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'absent.db'}")
    monkeypatch.chdir(tmp_path)
    if not (tmp_path / "studies").exists():
        finish(new_study(tmp_path, "good", search={"trials": 1}, confirm={"finalists": 0}))
        shutil.copytree(whole.directory, tmp_path / "studies" / "study")
    if content.get("study") == "one":
        content["study"] = "study"
    damaged = tmp_path / "studies" / "study" / "study.json"
    damaged.write_bytes(json.dumps(content).encode("utf-8", "surrogatepass"))
    for command in ("studies --format json", "trials study", "best study", "pareto study"):
        result = CliRunner().invoke(app, command.split())
        assert isinstance(result.exception, AiqError | None), (command, result.exception)
        assert not command.startswith("studies") or '"good"' in result.stdout


@pytest.fixture
def damaged(whole, tmp_path, monkeypatch):
    """Journal of a study, damaged in its midst, in AIQ_HOME."""
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    directory = tmp_path / "studies" / "study"
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "study.json").write_bytes((whole.directory / "study.json").read_bytes())
    journal = directory / "study.journal"
    journal.write_bytes(b'{"op_code": 99}\n[]\nnot json\n' + whole.journal.read_bytes())
    return journal


@pytest.mark.parametrize("command", ["resume", "retry", "trials", "best", "doctor"])
def test_no_command_shows_a_traceback_for_a_damaged_study(command, damaged):
    content = damaged.read_bytes()
    result = CliRunner().invoke(app, [command, "study"])
    assert isinstance(result.exception, StudyError), result.exception
    assert result.exception.exit_code == 2
    assert damaged.read_bytes() == content


def test_a_damaged_study_can_be_removed(damaged):
    result = CliRunner().invoke(app, ["delete", "study", "--yes", "--keep-runs"])
    assert result.exception is None, result.exception
    assert not damaged.parent.exists()


def test_only_what_follows_the_last_whole_line_is_cut(tmp_path):
    path = tmp_path / "study.journal"
    for whole_lines in (b"", b'{"a": 1}\n', b'{"a": 1}\n{"b": 2}\n', b"x" * 100_000 + b"\n"):
        for tail in (b"", b"{", b'{"c": 3}', b"y" * 70_000):
            path.write_bytes(whole_lines + tail)
            assert cut_torn_tail(path) == len(tail)
            assert path.read_bytes() == whole_lines


def test_a_damaged_checkpoint_is_a_checkpoint_error_and_left_as_it_is(tmp_path):
    path = tmp_path / "trial.safetensors"
    save_weights(path, {"hidden.weight": torch.arange(64.0)}, {"trial": "a"})
    good = path.read_bytes()
    refused = 0
    for number in range(FLIPS):
        data = harmed(good, number)
        path.write_bytes(data)
        try:
            load_weights(path)
        except CheckpointError:
            refused += 1
        assert path.read_bytes() == data
    assert refused > FLIPS / 3
    assert CheckpointError.exit_code == 2  # of `aiq export`, which reads such a file


def test_a_trial_with_a_damaged_checkpoint_starts_over(tmp_path):
    from aiq_search.search.driver import StudyDriver
    from aiq_search.worker.worker import TrialWorker

    study = new_study(tmp_path)
    driver = StudyDriver(study)
    driver.begin()
    assignment = driver.next_assignment()
    worker = TrialWorker(load_dataset(DatasetOptions(name="digits", validation=360, test=360)))
    reports = []
    for checkpoint in (None, b"", b"damaged", b"\xff" * 100):
        if checkpoint is not None:
            Path(assignment.checkpoint).write_bytes(checkpoint)
        worker.begin(assignment)
        reports.append(worker.step())
    assert reports[0].reason is None
    assert all(report == reports[0] for report in reports)


def test_a_damaged_data_file_is_refused_and_left_as_it_is(tmp_path):
    import numpy as np

    path = tmp_path / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x_train=rng.random((40, 4), np.float32), y_train=rng.integers(0, 2, 40))
    good = path.read_bytes()
    options = DatasetOptions(name=str(path), validation=10, test=10)
    refused = 0
    for number in range(FLIPS):
        data = harmed(good, number)
        path.write_bytes(data)
        try:
            load_dataset(options)
        except InputError:
            refused += 1
        assert path.read_bytes() == data
    assert refused > FLIPS / 3
