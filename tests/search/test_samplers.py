"""What the samplers make of a history: they run, they learn from constraints, and they know conditions."""

from __future__ import annotations

import optuna
import pytest
import torch

from aiq_search.errors import InputError
from aiq_search.search.check import check_space
from aiq_search.search.driver import StudyDriver
from aiq_search.search.samplers import STEERED_BY_CONSTRAINTS, constraints_note, create_sampler
from aiq_search.space import load_space
from aiq_search.space.options import SamplerOptions
from aiq_search.study import Phase, TrialState
from tests.search.simulation import finish, new_study, run, simulated_space

CONDITIONAL = {
    "model.hidden1": {"type": "int", "low": 2, "high": 64, "log": True},
    "training.optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    "training.momentum": {"type": "float", "low": 0.5, "high": 0.9, "when": "training.optimizer == 'sgd'"},
    "model.hidden2": {"type": "derived", "value": "max(2, model.hidden1 // 2)"},
}


@pytest.fixture
def one_thread():
    """gp's computations are so small that a second thread makes it several times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def proposals(options, violation, number=20):
    """Widths that a sampler proposes after a history in which wide networks miss a constraint by so much."""
    sampler = create_sampler(SamplerOptions.model_validate(options), 0, conditional=False)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    widths = {name: optuna.distributions.IntDistribution(1, 100) for name in ("width", "other")}
    for _ in range(20):
        trial = study.ask(widths)
        trial.set_constraint("parameters <= 50", violation if trial.params["width"] > 50 else -1.0)
        study.tell(trial, trial.params["width"] / 100)
    return [study.ask(widths).params["width"] for _ in range(number)]


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"name": "tpe"}, 20),
        ({"name": "nsga2", "population_size": 5}, 20),
        pytest.param({"name": "gp", "n_startup_trials": 20}, 2, marks=pytest.mark.slow),
    ],
    ids=["tpe", "nsga2", "gp"],
)
def test_samplers_that_steer_by_constraints_do(one_thread, options, number):
    assert options["name"] in STEERED_BY_CONSTRAINTS
    assert sum(proposals(options, 1.0, number)) < sum(proposals(options, -1.0, number))


def test_a_sampler_that_does_not_steer_is_as_it_is_said():
    assert proposals({"name": "random"}, -1.0) == proposals({"name": "random"}, 1.0)


def test_the_sampler_gp_searches(one_thread, tmp_path):
    search = {"trials": 6, "sampler": {"name": "gp", "n_startup_trials": 4}}
    study = new_study(tmp_path, search=search, confirm={"finalists": 0})
    finish(study)
    assert [record.state for record in study.records()] == [TrialState.COMPLETE] * 6


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_space_with_conditions_is_explored_and_confirmed(tmp_path, sampler):
    study = new_study(
        tmp_path,
        parameters=CONDITIONAL,
        search={"trials": 16, "sampler": sampler, "pruner": "asha"},
        confirm={"finalists": 2, "seeds": 2},
    )
    champion = finish(study, concurrency=2)
    explored = study.records(Phase.EXPLORE)
    assert len(explored) == 16
    for record in explored:
        assert ("training.momentum" in record.params) == (record.params["training.optimizer"] == "sgd")
        assert record.params["model.hidden2"] == max(2, record.params["model.hidden1"] // 2)
    confirmed = study.records(Phase.CONFIRM)
    assert {r.origin for r in confirmed} == set(study.finalists)
    assert all(r.params == explored[r.origin].params for r in confirmed)
    assert champion.phase is Phase.CONFIRM


def test_a_conditional_space_killed_and_resumed_draws_the_same(tmp_path):
    drawn = []
    for name, stop in (("whole", None), ("killed", 37)):
        study = new_study(
            tmp_path, name, parameters=CONDITIONAL, search={"trials": 16, "sampler": "tpe", "pruner": "asha"}
        )
        if stop is not None:
            driver = StudyDriver(study)
            driver.begin()
            run(driver, stop_after=stop)
        finish(study)
        drawn.append([record.params for record in study.records(Phase.EXPLORE)])
    assert drawn[0] == drawn[1]


def test_an_option_that_cannot_be_in_a_conditional_space_is_refused_before_anything_is_written():
    search = {"sampler": {"name": "tpe", "multivariate": False}}
    check_space(simulated_space(search=search))
    document = simulated_space(search=search).document()
    hidden1, hidden2 = document["parameters"].values()
    document["parameters"] = {
        "model.hidden1": hidden1,
        "model.hidden2": {**hidden2, "when": "model.hidden1 > 4"},
    }
    with pytest.raises(InputError, match=r"search\.sampler: .* set group: false, too"):
        check_space(load_space(document))


@pytest.mark.parametrize(
    ("sampler", "constraints", "said"),
    [
        (
            "random",
            ["accuracy >= 0.9"],
            "sampler random does not steer by constraints: accuracy >= 0.9 only decides the champion; "
            "tpe, gp and nsga2 do.",
        ),
        (
            "grid",
            ["accuracy >= 0.9", "parameters <= 500"],
            "sampler grid does not steer by constraints: accuracy >= 0.9 and parameters <= 500 only decide "
            "the champion; tpe, gp and nsga2 do.",
        ),
        ("tpe", ["accuracy >= 0.9"], None),
        ("random", ["model.hidden2 <= model.hidden1"], None),
        ("random", [], None),
    ],
)
def test_a_sampler_that_constraints_do_not_steer_is_named(sampler, constraints, said):
    space = simulated_space(search={"sampler": sampler}, objective={"constraints": constraints})
    assert constraints_note(space) == said


@pytest.mark.filterwarnings("error")
def test_what_is_experimental_in_optuna_is_no_news_to_a_user(tmp_path):
    finish(new_study(tmp_path, parameters=CONDITIONAL, search={"sampler": "tpe", "trials": 3}))
