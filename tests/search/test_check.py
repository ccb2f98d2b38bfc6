import json
import re

import pytest

from aiq_search.app.space import CheckedSpace
from aiq_search.search.check import check_networks, check_space, corner, unchecked_code
from aiq_search.search.machine import Machine
from aiq_search.space import Int, SpaceError, load_space
from aiq_search.user_code import CodePolicy
from tests.space.test_schema import CONDITIONAL, INT, space_of

SHAPE = (1, 8, 8)
WIDTH = {"type": "int", "low": 2, "high": 1024, "log": True}


def constrained(*constraints, parameters=None):
    parameters = parameters or {"model.hidden1": INT, "model.hidden2": INT}
    return space_of(parameters, objective={"constraints": list(constraints)})


def test_a_constraint_on_a_layer_that_no_network_has_is_refused():
    with pytest.raises(
        SpaceError, match=r"no network of the space has a hidden layer 'hiden1'.*\"hidden1\""
    ) as error:
        check_networks(constrained("efficiency/hiden1 >= 0.5"), SHAPE, 10)
    assert error.value.exit_code == 2


def test_a_constraint_on_a_layer_of_every_network_is_good():
    check_networks(constrained("efficiency/hidden2 >= 0.5", "accuracy >= 0.5"), SHAPE, 10)


def test_the_output_layer_has_no_efficiency_to_bound():
    with pytest.raises(SpaceError, match="no network of the space has a hidden layer 'output'"):
        check_networks(constrained("efficiency/output >= 0.5"), SHAPE, 10)


def test_a_layer_that_only_the_networks_between_the_corners_have_is_good():
    parameters = {
        "model.hidden1": INT,
        "training.optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw"]},
        "model.hidden2": {**INT, "when": "training.optimizer == 'adam'"},
    }
    check_networks(constrained("efficiency/hidden2 >= 0.5", parameters=parameters), SHAPE, 10)
    with pytest.raises(SpaceError, match="hidden3"):
        check_networks(constrained("efficiency/hidden3 >= 0.5", parameters=parameters), SHAPE, 10)


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_corner_meets_the_constraints_on_parameters(sampler):
    space = space_of(
        {"model.hidden1": WIDTH, "model.hidden2": WIDTH},
        objective={"constraints": ["model.hidden1 * model.hidden2 <= 1000", "model.hidden1 > 2"]},
        search={"sampler": sampler},
    )
    narrow, wide = (corner(space, widest=widest) for widest in (False, True))
    assert space.allows(narrow)
    assert space.allows(wide)
    assert sum(narrow.values()) < 30 < sum(wide.values())


def test_a_network_that_the_constraints_exclude_need_not_be_buildable():
    space = space_of(
        {"model.conv1": INT, "training.momentum": {"type": "float", "low": 0.1, "high": 0.5}},
        model={"name": f"{__name__}:picky"},
        objective={"constraints": ["model.conv1 > 1"]},
    )
    check_networks(space, SHAPE, 10, CodePolicy(packages=("tests",)))
    with pytest.raises(SpaceError, match="raised ValueError: too narrow"):
        check_networks(
            space_of({"model.conv1": INT}, model={"name": f"{__name__}:picky"}),
            SHAPE,
            10,
            CodePolicy(packages=("tests",)),
        )


def picky(input_shape, classes, conv1):
    from torch import nn

    if conv1 < 2:
        raise ValueError("too narrow")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, conv1), nn.ReLU(), nn.Linear(conv1, classes))


def test_a_grid_whose_constraints_leave_nothing_has_no_corner():
    space = space_of(
        {"model.hidden1": INT}, objective={"constraints": ["model.hidden1 > 9"]}, search={"sampler": "grid"}
    )
    with pytest.raises(SpaceError, match="allow no configuration"):
        corner(space, widest=True)


@pytest.mark.parametrize(
    ("derived", "said"),
    [
        ("model.hidden1 // (model.hidden1 - 4)", "cannot be computed with model.hidden1 = 4: .*by zero"),
        (
            "model.hidden1 < 'wide'",
            "with model.hidden1 = 1: expected a number, but got 'wide'",
        ),
        (
            "(0 - model.hidden1) ** 0.5",
            r"with model.hidden1 = 1: expected a number, but got \(6",
        ),
        ("1 ** (60 + model.hidden1 * 2)", "cannot be computed with model.hidden1 = 4: the exponent 68"),
    ],
)
def test_an_expression_that_cannot_be_computed_is_one_sentence(derived, said):
    value = {"type": "derived", "value": derived}
    for space in (
        space_of({"model.hidden1": INT, "model.hidden2": value}),
        space_of({"model.hidden1": INT}, objective={"constraints": [derived]}),
        space_of({"model.hidden1": INT, "model.hidden2": {**INT, "when": derived}}),
    ):
        with pytest.raises(
            SpaceError,
            match=re.compile(
                rf"(parameters\.model\.hidden2\.(when|value)|objective\.constraints\.0): .*{said}"
            ),
        ):
            check_networks(space, SHAPE, 10)


def test_a_derived_value_that_training_refuses_is_one_sentence():
    space = space_of(
        {"model.hidden1": INT, "training.batch_size": {"type": "derived", "value": "model.hidden1 - 1"}}
    )
    with pytest.raises(SpaceError, match=r"parameters\.training\.batch_size: 0 is not possible: "):
        check_networks(space, SHAPE, 10)


def test_what_is_derived_from_an_absent_parameter_is_absent():
    parameters = {**CONDITIONAL, "model.hidden3": {"type": "derived", "value": "2 * model.hidden2"}}
    space = space_of(parameters)
    assert corner(space, widest=False) == {"model.depth": 1, "model.hidden1": 2}
    assert corner(space, widest=True)["model.hidden3"] == 32


def test_the_size_is_a_sentence():
    assert CheckedSpace(space_of(CONDITIONAL)).size_sentence == "s: 36 configurations; 60 are tried."
    endless = space_of({"training.momentum": {"type": "float", "low": 0.1, "high": 0.5}})
    assert CheckedSpace(endless).size_sentence == "s: infinitely many configurations; 60 are tried."


def own(name, **sections):
    document = {
        "schema_version": 1,
        "name": "s",
        "model": {"name": name},
        "dataset": {"name": "digits"},
        "parameters": {"model.width": INT},
    }
    return load_space(document | sections)


def untouched(input_shape, classes, width):
    raise AssertionError("called")


def test_code_is_neither_imported_nor_called_unless_that_is_allowed():
    for name in (f"{__name__}:untouched", "no.such:thing", "os:system"):
        check_space(own(name))
        assert unchecked_code(own(name)) == [name]
    assert unchecked_code(own("mlp", dataset={"name": "os:abort"})) == ["os:abort"]
    assert unchecked_code(own(f"{__name__}:untouched"), CodePolicy(packages=("tests",))) == []


def test_code_that_is_not_allowed_is_refused_where_a_search_would_run_it():
    for section in ("model", "dataset"):
        with pytest.raises(
            SpaceError, match=rf"{section}\.name: os:system: 'os' is not in the working folder"
        ):
            check_space(own("mlp", **{section: {"name": "os:system"}}), CodePolicy.for_running())


def test_what_the_user_s_function_raises_and_takes_is_one_sentence():
    here = CodePolicy(packages=("tests",))
    with pytest.raises(
        SpaceError, match=r"model\.name: .*untouched raised AssertionError: called \(tests/search/"
    ):
        check_space(own(f"{__name__}:untouched"), here)
    with pytest.raises(SpaceError, match=r"parameters\.model\.width: model '.*' takes no argument 'width'"):
        check_space(own(f"{__name__}:picky"), here)
    with pytest.raises(SpaceError, match=r"model\.conv1: .*fixed|model\.name: .*cannot be called|conv1"):
        check_space(own(f"{__name__}:picky", parameters={"training.momentum": MOMENTUM}), here)


MOMENTUM = {"type": "float", "low": 0.1, "high": 0.5}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"resources": {"gpu": 1}},
            r"resources\.gpu: a trial takes 1 GPU, but this machine has 0; lower it, or",
        ),
        ({"resources": {"gpu": 0.5}}, r"resources\.gpu: a trial takes 0\.5 GPU"),
        ({"resources": {"cpu": 3}}, r"resources\.cpu: a trial takes 3 CPU cores, but this machine has 2"),
        ({"training": {"device": "cuda"}}, r"training\.device: a trial without a GPU cannot train on cuda"),
        (
            {"parameters": {"model.hidden1": {**INT, "high": 10**10}}},
            r"model: a network is too large: to train it",
        ),
        ({"parameters": {"model.hidden1": {**INT, "high": 2**53}}}, r"model: a network is too large: "),
        (
            {"parameters": {"model.hidden1": INT, "model.hidden2": {**INT, "high": 10**9}}},
            r"to train it takes \d+ GB, and this machine has 8 GB \(with model.hidden1=4, model.hidden2=10",
        ),
    ],
)
def test_what_this_machine_cannot_do_is_refused_unless_trials_run_elsewhere(sections, said):
    space = own("mlp", **{"parameters": {"model.hidden1": INT}, **sections})
    machine = Machine(cpus=2, gpus=0, memory=8 * 10**9)
    with pytest.raises(SpaceError, match=said):
        check_space(space, machine=machine)
    if "too large: to" not in said and "2**53" not in said and "model" not in sections.get("parameters", {}):
        check_space(own("mlp", **{"parameters": {"model.hidden1": INT}, **sections}), machine=None)


GRAPHS = {"training": {"cuda_graphs": True}}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (GRAPHS, r"space\.yaml:\d+: training\.cuda_graphs: a trial has no GPU \(resources\.gpu is 0\)"),
        (
            {"training": {"cuda_graphs": True, "device": "cpu"}, "resources": {"gpu": 1}},
            r"space\.yaml:\d+: training\.cuda_graphs: training\.device is cpu",
        ),
        (
            {"training": {"cuda_graphs": True, "engine": "compiled"}, "resources": {"gpu": 1}},
            r"space\.yaml:\d+: training\.cuda_graphs: the compiled engine uses no GPU",
        ),
    ],
)
def test_cuda_graphs_need_a_gpu_on_whatever_machine(tmp_path, sections, said):
    document = {"schema_version": 1, "name": "s", "model": {"name": "mlp"}, "dataset": {"name": "digits"}}
    path = tmp_path / "space.yaml"
    path.write_text(json.dumps(document | {"parameters": {"model.hidden1": INT}} | sections))
    with pytest.raises(SpaceError, match=said):
        check_space(load_space(path))
    check_space(own("mlp", parameters={"model.hidden1": INT}, resources={"gpu": 1}, **GRAPHS))


def test_cuda_graphs_are_no_parameter():
    choice = {"type": "categorical", "choices": [True, False]}
    with pytest.raises(SpaceError, match="all of a study is trained alike; set it in the section training"):
        check_space(own("mlp", parameters={"model.hidden1": INT, "training.cuda_graphs": choice}))


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (
            {"sampler": {"name": "tpe", "n_startup_trials": "many"}},
            "n_startup_trials must be int, but got 'many'",
        ),
        (
            {"sampler": {"name": "tpe", "n_startup_trials": True}},
            "n_startup_trials must be int, but got True",
        ),
        ({"sampler": {"name": "tpe", "gamma": 3}}, "gamma must be a function, which a file cannot name"),
        ({"sampler": {"name": "tpe", "n_ei_candidates": 10**9}}, "n_ei_candidates must be at most 1,000,000"),
        ({"sampler": {"name": "nsga2", "population_size": 1}}, "greater than or equal to 2"),
        ({"sampler": {"name": "tpe", "n_startup": 3}}, 'did you mean "n_startup_trials"'),
        (
            {"pruner": {"name": "asha", "min_resource": [1]}},
            r"min_resource must be int or str, but got \[1\]",
        ),
        ({"pruner": {"name": "asha", "reduction_factor": 1}}, "reduction_factor"),
    ],
)
def test_options_of_samplers_and_pruners_are_checked_by_name_and_type(search, said):
    space = own("mlp", parameters={"model.hidden1": INT}, search=search)
    with pytest.raises(SpaceError, match=rf"search\.(sampler|pruner): .*{said}"):
        check_space(space)


def test_a_number_may_stand_for_a_real_option():
    check_space(
        own(
            "mlp",
            parameters={"model.hidden1": INT},
            search={"sampler": {"name": "nsga2", "crossover_prob": 1}},
        )
    )


def test_a_grid_that_cannot_be_is_refused():
    search = {"sampler": "grid"}
    with pytest.raises(SpaceError, match=r"parameters\.model\.dropout: a grid needs a step"):
        check_space(own("mlp", parameters={"model.hidden1": INT, "model.dropout": MOMENTUM}, search=search))


def test_positions_order_the_configurations():
    space = own(
        "mlp",
        parameters={
            "model.hidden1": {"type": "int", "low": 2, "high": 10},
            "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
            "training.optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
        },
    )
    kinds = space.parameters
    assert [kinds["model.hidden1"].position(v) for v in (2, 4, 10)] == [0, 0.25, 1]
    assert [kinds["model.dropout"].position(v) for v in (0.0, 0.25, 0.5)] == [0, 0.5, 1]
    assert [kinds["training.optimizer"].position(v) for v in ("sgd", "adam")] == [0, 0.5]
    assert Int(3, 3).position(3) == 0
