"""A constraint on accuracy in eight bits: what is refused, who measures it, and whom it makes champion."""

from dataclasses import replace

import pytest
from torch import nn

from aiq_search.errors import NothingFeasibleError
from aiq_search.search.check import check_networks
from aiq_search.search.machine import Machine
from aiq_search.space import SpaceError
from aiq_search.study import Phase
from aiq_search.study.finalists import verdicts_of
from aiq_search.user_code import CodePolicy
from tests.search.simulation import finish, new_study
from tests.space.test_schema import INT, space_of

BOUND = "int8/accuracy >= 0.8"
WIDTHS = {"model.hidden1": INT, "model.hidden2": INT}


def constrained(**sections):
    return space_of(sections.pop("parameters", WIDTHS), objective={"constraints": [BOUND]}, **sections)


@pytest.mark.parametrize("confirm", [{"runs": 0}, {"finalists": 0}])
def test_without_confirmations_nothing_would_be_measured(confirm):
    with pytest.raises(SpaceError, match=r"int8/accuracy is measured on fresh seeds.*confirm\.runs"):
        constrained(confirm=confirm)


class Softsign(nn.Module):
    def __init__(self, classes, hidden1):
        super().__init__()
        self.hidden1, self.output = nn.Linear(64, hidden1), nn.Linear(hidden1, classes)

    def forward(self, x):
        return self.output(nn.functional.softsign(self.hidden1(x.flatten(1))))


def of_ones_own(input_shape, classes, hidden1):
    return Softsign(classes, hidden1)


def test_a_network_that_cannot_be_quantised_is_a_sentence():
    space = constrained(parameters={"model.hidden1": INT}, model={"name": f"{__name__}:of_ones_own"})
    code = CodePolicy.for_running(["tests"])
    with pytest.raises(SpaceError, match="int8/accuracy cannot be measured: network is a Softsign") as error:
        check_networks(space, (1, 8, 8), 10, code)
    assert error.value.exit_code == 2


def test_one_that_can_be_is_good():
    check_networks(constrained(), (1, 8, 8), 10, machine=Machine.here())


def test_missing_packages_are_a_sentence_where_trials_run_here(monkeypatch):
    monkeypatch.setattr("aiq_search.lowering.onnx_extra.onnx_available", lambda: False)
    check_networks(constrained(), (1, 8, 8), 10)
    with pytest.raises(SpaceError, match="int8/accuracy cannot be measured: ONNX needs three more packages"):
        check_networks(constrained(), (1, 8, 8), 10, machine=Machine.here())


class Measured:
    """Trainings that lose accuracy in eight bits, and measure that if they are asked to."""

    def __init__(self, drop):
        self.drop, self.asked = drop, {}

    def __call__(self, assignment, epoch, report):
        self.asked[assignment.key] = assignment.int8
        if not (report.done and assignment.int8):
            return report
        accuracy = report.epochs[0][1]["accuracy"] - self.drop(assignment.architecture["arguments"])
        numbers = {"int8/accuracy": accuracy, "test/int8/accuracy": accuracy}
        return replace(report, final={**report.final, **numbers})


def searched(tmp_path, drop, **sections):
    study = new_study(tmp_path, objective={"constraints": [BOUND]}, **sections)
    trainings = Measured(drop)
    return study, trainings, lambda: finish(study, change=trainings)


@pytest.mark.parametrize("confirm", [{}, {"runs": 8, "finalists": None}])
def test_every_confirmation_measures_it_and_no_exploring_trial_does(tmp_path, confirm):
    study, trainings, search = searched(tmp_path, lambda _: 0.01, **({"confirm": confirm} if confirm else {}))
    champion = search()
    assert {key.split("/")[1]: asked for key, asked in trainings.asked.items()} == {
        "explore": False,
        "confirm": True,
    }
    assert all("int8/accuracy" not in record.metrics for record in study.records(Phase.EXPLORE))
    lost = champion.validation["accuracy"].mean - champion.validation["int8/accuracy"].mean
    assert lost == pytest.approx(0.01)
    assert champion.test["int8/accuracy"].mean == pytest.approx(champion.test["accuracy"].mean - 0.01)


def test_the_champion_is_the_best_of_those_that_meet_it_in_eight_bits(tmp_path):
    _, _, search = searched(tmp_path / "free", lambda _: 0.0)
    best = search().params
    study, _, search = searched(
        tmp_path / "bound", lambda widths: 0.3 if widths["hidden1"] == best["model.hidden1"] else 0.0
    )
    champion = search()
    assert champion.feasible
    assert champion.params["model.hidden1"] != best["model.hidden1"]
    (refused,) = (
        v for v in verdicts_of(study) if v.finalist.params["model.hidden1"] == best["model.hidden1"]
    )
    assert "misses int8/accuracy >= 0.8 (mean 0." in refused.reason


def test_nothing_that_meets_it_is_a_sentence(tmp_path):
    study, _, search = searched(tmp_path, lambda _: 0.3)
    search()
    with pytest.raises(NothingFeasibleError, match=r"finalists meets int8/accuracy >= 0\.8 on average"):
        study.champion()
