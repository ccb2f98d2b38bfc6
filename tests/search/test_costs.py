"""Latency and bytes of activations as objectives and constraints: what is refused, and who wins by them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import NothingFeasibleError
from aiq_search.search.check import check_networks
from aiq_search.search.machine import Machine
from aiq_search.search.preflight import preflight
from aiq_search.space import SpaceError
from aiq_search.study import Phase
from aiq_search.study.finalist_rows import finalist_rows
from aiq_search.study.finalists import verdicts_of
from aiq_search.user_code import CodePolicy
from tests.search.reports import report_of
from tests.search.simulation import finish, new_study
from tests.space.test_schema import INT, space_of

BOTH_COSTS = ("activation_bytes", "latency_ms")
BOTH = {"minimize": "latency_ms", "constraints": ["accuracy >= 0.7", "activation_bytes <= 160"]}
WIDTHS = {"model.hidden1": INT, "model.hidden2": INT}
HERE = CodePolicy(packages=("tests",))
LATENCY = {"minimize": "latency_ms"}


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


# ---- the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "costs"),
    [
        ({}, ()),
        (LATENCY, ("latency_ms",)),
        ({"maximize": "aiq", "minimize": ["latency_ms", "activation_bytes"]}, BOTH_COSTS),
        ({"constraints": ["activation_bytes <= 1e4"]}, ("activation_bytes",)),
    ],
)  # fmt: skip
def test_what_the_objective_names_is_measured(objective, costs):
    assert space_of(WIDTHS, objective=objective).objective.costs == costs


@pytest.mark.parametrize("name", ["latency_ms", "activation_bytes"])
def test_training_does_not_change_it_so_dominance_prunes(name):
    assert space_of(WIDTHS, objective={"minimize": name}).search.pruner.name == "pareto"
    with pytest.raises(SpaceError, match=f"asha would stop networks for their {name} alone"):
        space_of(WIDTHS, objective={"minimize": name}, search={"pruner": "asha"})


def test_a_wrong_name_is_answered_with_the_right_one():
    with pytest.raises(SpaceError, match=r'not a reported number; did you mean "latency_ms"\?'):
        space_of(WIDTHS, objective={"constraints": ["latency <= 3"]})


# ---- networks that have no such number ---------------------------------------------------------------------


class Eigenvalues(nn.Module):
    """ONNX has no operator for eigenvalues."""

    def __init__(self, classes, hidden1):
        super().__init__()
        self.hidden1, self.output = nn.Linear(64, hidden1**2), nn.Linear(hidden1, classes)
        self.side = hidden1

    def forward(self, x):
        square = self.hidden1(x.flatten(1)).reshape(-1, self.side, self.side)
        return self.output(torch.linalg.eigvalsh(square + square.mT))


def without_onnx(input_shape, classes, hidden1):
    return Eigenvalues(classes, hidden1)


def test_a_network_that_onnx_cannot_take_is_a_sentence_before_the_search(digits):
    model = {"name": f"{__name__}:without_onnx"}
    space = space_of({"model.hidden1": INT}, model=model, objective=LATENCY)
    with pytest.raises(SpaceError, match=r"latency_ms cannot be measured: torch\.onnx cannot") as error:
        preflight(space, digits, HERE, Machine.here())
    assert error.value.exit_code == 2
    assert len(str(error.value).splitlines()) == 1


RESIDUAL = {"name": "cnn", "residual": True, "depth": 2}


def test_a_network_with_residuals_has_a_latency_and_no_bytes(digits):
    space = space_of({"model.width": INT}, model=RESIDUAL, objective=LATENCY)
    assert len(preflight(space, digits, HERE, Machine.here())) == 2
    space = space_of({"model.width": INT}, model=RESIDUAL, objective={"minimize": "activation_bytes"})
    with pytest.raises(SpaceError, match=r"activation_bytes cannot be measured: .* is a Residual"):
        check_networks(space, (1, 8, 8), 10)


def test_missing_packages_are_a_sentence_where_trials_run_here(monkeypatch):
    monkeypatch.setattr("aiq_search.lowering.onnx_extra.onnx_available", lambda: False)
    space = space_of(WIDTHS, objective=LATENCY)
    check_networks(space, (1, 8, 8), 10)
    with pytest.raises(SpaceError, match="latency_ms cannot be measured: ONNX needs three more packages"):
        check_networks(space, (1, 8, 8), 10, machine=Machine.here())
    bytes_alone = space_of(WIDTHS, objective={"minimize": "activation_bytes"})
    check_networks(bytes_alone, (1, 8, 8), 10, machine=Machine.here())


# ---- a search ----------------------------------------------------------------------------------------------


def costs_of(record):
    return {name: record.metrics.get(name) for name in ("activation_bytes", "latency_ms", "latency_ms_iqr")}


@pytest.mark.parametrize("confirm", [{}, {"runs": 8, "finalists": None}], ids=["finalists", "race"])
def test_the_fastest_that_meets_the_constraints_wins(tmp_path, confirm):
    study = new_study(tmp_path, objective=BOTH, search={"trials": 30}, confirm={**confirm, "ties": "best"})
    champion = finish(study)
    explored = study.records(Phase.EXPLORE)
    assert all(None not in costs_of(record).values() for record in [*explored, *study.records(Phase.CONFIRM)])
    fitting = [r for r in explored if r.metrics["accuracy"] >= 0.7 and r.metrics["activation_bytes"] <= 160]
    assert {r.key.number for r in fitting} == {r.key.number for r in explored if r.feasible}
    assert champion.validation["activation_bytes"].mean <= 160
    assert champion.validation["activation_bytes"].sd == 0
    mean = champion.validation["latency_ms"].mean
    assert mean == -champion.validation["objective"].mean
    assert mean <= 1.2 * min(r.metrics["latency_ms"] for r in fitting)  # the simulated noise is 5 %
    assert "latency_ms" not in champion.test
    rows = finalist_rows(study.space, verdicts_of(study))
    assert f"{mean:.4g} ± " in next(row for row in rows if row.trial == str(champion.trial)).mean


def test_nothing_small_enough_is_a_sentence_with_the_nearest(tmp_path):
    study = new_study(tmp_path, objective={"constraints": ["activation_bytes <= 4"]})
    finish(study)
    with pytest.raises(NothingFeasibleError, match=r"meets activation_bytes <= 4; nearest is trial \d+ with"):
        study.champion()


def test_a_seed_that_failed_has_no_latency(tmp_path):
    def fail_some(assignment, epoch, report):
        if assignment.key.split("/")[1] == "confirm" and assignment.seed % 3 == 0:
            return replace(report_of(assignment, epoch), done=True, reason="it failed")
        return report

    study = new_study(tmp_path, objective=LATENCY, search={"trials": 4}, confirm={"seeds": 6})
    champion = finish(study, change=fail_some)
    worked = [r.metrics["latency_ms"] for r in champion.judges if r.state == "COMPLETE"]
    assert champion.validation["latency_ms"].n == len(worked)
