import math
import os
import time
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

import aiq_search.search.preflight as preflight_module
from aiq_search.datasets import DatasetOptions, known_shape, load_dataset
from aiq_search.errors import InputError
from aiq_search.models import model_size
from aiq_search.search.check import check_space, network
from aiq_search.search.machine import Machine
from aiq_search.search.preflight import load_data, part_of, preflight
from aiq_search.space import SpaceError, load_space
from aiq_search.space.points import drawn
from aiq_search.user_code import CodePolicy
from tests.support.made_up import made_up

HERE = CodePolicy(packages=("tests",))
SPACES = Path(__file__).parents[2] / "search_spaces"
needs_mnist = pytest.mark.skipif(
    not (Path(os.environ.get("AIQ_DATA_DIR", "/nowhere")) / "MNIST" / "raw").is_dir(),
    reason="real MNIST is not in AIQ_DATA_DIR",
)


def perceptron(inputs, width, outputs, *modules):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), nn.ELU(), *modules, nn.Linear(width, outputs)
    )


def good(input_shape, classes, width=8):
    return perceptron(math.prod(input_shape), width, classes)


def lazy(input_shape, classes, width=8):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.ELU(), nn.LazyLinear(classes))


def odd_names(input_shape, classes, width=8):
    model = nn.Sequential(nn.Flatten())
    model.add_module("fc:1,a@b", nn.Linear(math.prod(input_shape), width))
    model.add_module("act", nn.ELU())
    model.add_module("out", nn.Linear(width, classes))
    return model


def no_hidden_layer(input_shape, classes, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


class Output(nn.Module):
    """A network whose output is changed by a function."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x):
        return self.change(self.model(x))


def dict_output(input_shape, classes, width=8):
    return Output(good(input_shape, classes, width), lambda logits: {"logits": logits})


def seven_outputs(input_shape, classes, width=8):
    return good(input_shape, 7, width)


def classes_as_numbers(input_shape, classes, width=8):
    return Output(good(input_shape, classes, width), lambda logits: logits.argmax(1))


def whole_numbers(input_shape, classes, width=8):
    return Output(good(input_shape, classes, width), lambda logits: logits.long())


def not_finite(input_shape, classes, width=8):
    return Output(good(input_shape, classes, width), lambda logits: logits / 0)


def detached(input_shape, classes, width=8):
    return Output(good(input_shape, classes, width), torch.detach)


def other_shape(input_shape, classes, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(63, width), nn.ELU(), nn.Linear(width, classes))


def fails_when_wide(input_shape, classes, width=8):
    if width > 8:
        raise ValueError("too wide")
    return good(input_shape, classes, width)


def normed(input_shape, classes, width=8):
    return perceptron(math.prod(input_shape), width, classes, nn.BatchNorm1d(width))


class Hanging(nn.Linear):
    """It never answers."""

    def forward(self, x):
        while True:
            time.sleep(0.01)


def hanging(input_shape, classes, width=8):
    return nn.Sequential(nn.Flatten(), Hanging(64, width), nn.ELU(), nn.Linear(width, classes))


class Stateful(nn.Linear):
    """Its state is no tensor, which a checkpoint cannot have."""

    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        raise AssertionError("not reached")


def stateful(input_shape, classes, width=8):
    return nn.Sequential(nn.Flatten(), Stateful(64, width), nn.ELU(), nn.Linear(width, classes))


def broken_data():
    raise OSError("no such table")


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


def space_of(model, **sections):
    parameters = {"model.width": {"type": "int", "low": 2, "high": 16}}
    document = {
        "schema_version": 1,
        "name": "s",
        "model": {"name": f"{__name__}:{model}"},
        "dataset": {"name": "digits"},
        "parameters": parameters,
    }
    return load_space(document | sections)


@pytest.mark.parametrize("model", ["good", "lazy", "odd_names", "normed"])
def test_a_network_that_can_be_searched_passes(model, digits):
    narrow, wide = preflight(space_of(model), digits, HERE, Machine.here())
    assert (narrow.params, wide.params) == ({"model.width": 2}, {"model.width": 16})
    assert narrow.parameters < wide.parameters
    assert narrow.layers == wide.layers == (("fc:1,a@b",) if model == "odd_names" else ("1",))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("no_hidden_layer", "has no hidden linear or convolution layer"),
        ("dict_output", r"returns dict from its forward pass: expected the logits .*shape \(N, 10\)"),
        ("seven_outputs", r"returns shape \(16, 7\) for 16 samples: expected .*shape \(N, 10\)"),
        ("classes_as_numbers", r"returns shape \(16,\) for 16 samples"),
        ("whole_numbers", "returns int64: expected the logits as one float tensor"),
        ("not_finite", "returns NaN or infinity with fresh weights"),
        ("detached", r"raised RuntimeError: element 0 of tensors does not require grad"),
        ("other_shape", r"raised RuntimeError: .*mat1 and mat2 shapes cannot be multiplied"),
        (
            "fails_when_wide",
            r"raised ValueError: too wide \(tests/search/test_preflight.py, line \d+\).*model.width=16",
        ),
        ("stateful", "raised TypeError|raised AttributeError"),
    ],
)
def test_a_network_that_cannot_be_searched_is_one_sentence(model, said, digits):
    with pytest.raises(SpaceError, match=said) as error:
        preflight(space_of(model), digits, HERE, Machine.here())
    assert model in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_network_that_hangs_is_given_up(digits, monkeypatch):
    monkeypatch.setattr(preflight_module, "_SECONDS", 0.2)
    with pytest.raises(SpaceError, match=r"hanging took longer than 0\.2 s for one training step"):
        preflight(space_of("hanging"), digits, HERE, Machine.here())


class Stubborn(Hanging):
    """It takes every exception for its own."""

    def forward(self, x):
        while True:
            with suppress(Exception):
                time.sleep(0.01)


def stubborn(input_shape, classes, width=8):
    return nn.Sequential(nn.Flatten(), Stubborn(64, width), nn.ELU(), nn.Linear(width, classes))


class SlowOnMeta(nn.Linear):
    """It hangs where nothing is computed, as the size of large networks is counted."""

    def forward(self, x):
        while x.is_meta:
            time.sleep(0.01)
        return super().forward(x)


def test_the_limit_holds_within_any_except(digits, monkeypatch):
    monkeypatch.setattr(preflight_module, "_SECONDS", 0.2)
    with pytest.raises(SpaceError, match=r"stubborn took longer than 0\.2 s"):
        preflight(space_of("stubborn"), digits, HERE, Machine.here())


def test_the_limit_passes_where_a_network_s_size_is_counted(monkeypatch):
    monkeypatch.setattr(preflight_module, "_SECONDS", 0.2)
    monkeypatch.setattr("aiq_search.models.size._SMALL", 0)  # on the meta device
    model = nn.Sequential(nn.Flatten(), SlowOnMeta(64, 2), nn.GLU(), nn.Linear(1, 2))
    with (
        pytest.raises(InputError, match=r"slow took longer than 0\.2 s"),
        preflight_module._bounded("slow"),
    ):
        model_size(model, (64,))


def test_batches_are_as_large_as_in_training(digits):
    with pytest.raises(SpaceError, match="Expected more than 1 value per channel"):
        preflight(space_of("normed", training={"batch_size": 1}), digits, HERE)


def test_a_network_that_diverges_is_the_search_s_to_judge(digits):
    assert preflight(space_of("good", training={"learning_rate": 1e300}), digits, HERE) == []


def test_a_sampler_that_proposes_nothing_is_found_out(digits):
    search = {"sampler": {"name": "tpe", "n_ei_candidates": 0}}
    space = space_of("good", search=search)
    check_space(space, HERE)
    with pytest.raises(
        SpaceError, match=r"search\.sampler: with these options it proposes no trial 10: IndexError"
    ):
        preflight(space, digits, HERE)


def test_several_objectives_and_conditions_pass(digits):
    space = space_of(
        "good",
        parameters={
            "model.width": {"type": "int", "low": 2, "high": 16},
            "training.momentum": {"type": "float", "low": 0.1, "high": 0.9, "when": "model.width > 4"},
        },
        objective={"maximize": ["accuracy", "efficiency"]},
        search={"pruner": "none"},
    )
    assert len(preflight(space, digits, HERE)) == 2


def test_the_preflight_leaves_the_process_as_it_was(digits):
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    preflight(space_of("good"), digits, HERE)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_network_too_large_for_this_machine_is_only_tried_elsewhere(digits):
    memory = Machine(1, 0, 100_000)
    space = space_of("good", parameters={"model.width": {"type": "int", "low": 2, "high": 1024}})
    with pytest.raises(SpaceError, match="a network is too large: to train it takes"):
        preflight(space, digits, HERE, memory)
    large = {"model.width": {"type": "int", "low": 2, "high": 10**12}}
    assert len(preflight(space_of("good", parameters=large), digits, HERE, None)) == 1


def test_a_data_function_that_raises_is_one_sentence():
    space = space_of("good", dataset={"name": f"{__name__}:broken_data"})
    with pytest.raises(
        SpaceError, match=r"dataset\.name: .*broken_data raised OSError: no such table \(tests/search"
    ):
        load_data(space, code=HERE)
    with pytest.raises(SpaceError, match=r"dataset\.name: .*is not imported here"):
        load_data(space)


def test_a_part_of_a_data_set_has_its_first_samples(digits):
    part = part_of(digits, 5, 10_000)
    assert len(part.train), len(part.validation) == (5, 360)
    assert (part.train.inputs == digits.train.inputs[:5]).all()


@pytest.mark.parametrize(
    "name", ["digits", *(pytest.param(name, marks=needs_mnist) for name in ("lenet_5", "lenet_300_100"))]
)
def test_the_shipped_spaces_pass_within_ten_seconds(name):
    space = load_space(SPACES / f"{name}.yaml")
    dataset = load_data(space)
    started = time.process_time()
    assert len(preflight(space, dataset, machine=Machine.here())) == 2
    assert time.process_time() - started < 10


@pytest.mark.parametrize("name", ["cifar10_cnn", "fashion_mnist_cnn", "mnist_smallest"])
def test_the_shipped_spaces_of_convolutional_networks_pass_on_made_up_data(name):
    space = load_space(SPACES / f"{name}.yaml")
    check_space(space, machine=Machine.here())
    assert len(preflight(space, made_up(space.dataset.name), machine=Machine.here())) == 2


@pytest.mark.parametrize("name", ["cifar10_cnn", "fashion_mnist_cnn", "mnist_smallest"])
def test_any_network_of_a_shipped_space_can_be_built(name):
    space = load_space(SPACES / f"{name}.yaml")
    shape, classes = known_shape(space.dataset.name)
    for params in islice(drawn(space), 60):
        space.training_options(params)
        network(space, params, shape, classes, CodePolicy())


def test_the_smallest_network_may_be_searched_for_its_aiq():
    edits = ["objective.minimize=null", "objective.maximize=aiq"]
    space = load_space(SPACES / "mnist_smallest.yaml", edits)
    assert space.objective.directions == (("aiq", "maximize"),)
    check_space(space)


@pytest.mark.parametrize("searched", [False, True])
def test_an_augmentation_of_what_are_no_images_is_its_own_fault(tmp_path, digits, searched):
    path = tmp_path / "table.yaml"
    lines = [
        "schema_version: 1",
        "name: table",
        "model: {name: mlp}",
        "dataset: {name: made_up.npz}",
        "training: {}" if searched else "training: {augment: {shift: 0.1}}",
        "parameters:",
        "  model.hidden1: {type: int, low: 2, high: 4}",
        "  training.augment.shift: {type: float, low: 0.1, high: 0.2}" if searched else "",
    ]
    path.write_text("\n".join(lines))
    splits = {name: digits.split(name) for name in ("train", "validation", "test")}
    rows = {name: replace(s, inputs=s.inputs.reshape(len(s), -1)) for name, s in splits.items()}
    table = replace(digits, **rows)
    with pytest.raises(SpaceError, match=r"training.augment.shift: changes images .* shape \(64,\)") as error:
        preflight(load_space(path), table)
    assert str(error.value).startswith(f"{path}:{8 if searched else 5}: ")
