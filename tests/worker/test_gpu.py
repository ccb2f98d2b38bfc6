"""Searches on a GPU that trials share."""

import os

import pytest
import torch

from aiq_search import run_search
from aiq_search.study import TrialState

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def space(file, resources, **arguments):
    return {
        "schema_version": 1,
        "name": "gpu",
        "model": {"name": "tests.worker.gpu_network:network", "file": str(file), **arguments},
        "dataset": {"name": "digits"},
        "parameters": {"model.width": {"type": "int", "low": 4, "high": 32}},
        "search": {"trials": 6, "sampler": "random", "pruner": "none", "max_failed": 1.0},
        "training": {"epochs": 2},
        "confirm": {"finalists": 0},
        "resources": resources,
    }


def run(tmp_path, document):
    return run_search(document, home=tmp_path / "home", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def notes(file):
    """What the workers wrote down; this process builds networks too, to look at them."""
    lines = [line.split(maxsplit=1) for line in file.read_text().splitlines()]
    return {text for process, text in lines if int(process) != os.getpid()}


def test_a_search_without_a_gpu_leaves_the_machines_alone(tmp_path):
    result = run(tmp_path, space(tmp_path / "notes", {"cpu": 1, "gpu": 0}))
    assert {record.state for record in result.records} == {TrialState.COMPLETE}
    assert "ran on cpu" in notes(tmp_path / "notes")
    assert "ran on cuda" not in notes(tmp_path / "notes")


def test_trials_share_a_gpu(tmp_path):
    result = run(tmp_path, space(tmp_path / "notes", {"cpu": 1, "gpu": 0.25}))
    assert {record.state for record in result.records} == {TrialState.COMPLETE}
    assert notes(tmp_path / "notes") >= {"CUDA_VISIBLE_DEVICES=0", "ran on cuda"}
    assert result.champion is not None


def test_a_trial_that_asks_too_much_of_the_gpu_fails_alone(tmp_path):
    result = run(tmp_path, space(tmp_path / "notes", {"cpu": 1, "gpu": 0.5}, greedy_from=12))
    for record in result.records:
        if record.params["model.width"] >= 12:
            assert record.state is TrialState.FAIL
            assert record.reason.startswith("out of memory: ")
        else:
            assert record.state is TrialState.COMPLETE
    assert {record.state for record in result.records} == {TrialState.COMPLETE, TrialState.FAIL}
