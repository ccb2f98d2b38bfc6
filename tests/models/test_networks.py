import re

import pytest
import torch
from torch import nn

from aiq_search.errors import InputError
from aiq_search.models import Architecture, build_model, check_argument_names, layer_outputs, model_size
from aiq_search.user_code import CodePolicy

MNIST = {"input_shape": (1, 28, 28), "classes": 10}
OWN = CodePolicy.for_running(["tests"])


def own_model(input_shape, classes, width=3):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(28 * 28, width), torch.nn.Linear(width, classes)
    )


def not_a_model(input_shape, classes):
    return "a string"


def takes_no_shape(classes):
    raise AssertionError("called")


def lazy(input_shape, classes, width=3):
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.LazyLinear(width),
        torch.nn.LazyBatchNorm1d(),
        torch.nn.ReLU(),
        torch.nn.LazyLinear(classes),
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mlp", {"hidden1": 4}),
        ("mlp", {"hidden1": 4, "hidden2": 3, "hidden3": 2, "dropout": 0.5, "batch_norm": True}),
        ("mlp", {"hidden1": 4, "hidden2": 3, "hidden3": 2, "depth": 2, "activation": "relu"}),
        ("lenet_300_100", {}),
        ("lenet_5", {"conv1": 2, "conv2": 4, "fc": 8, "batch_norm": True, "dropout": 0.1}),
        ("tests.models.test_networks:own_model", {"width": 5}),
    ],
)
def test_every_model_gives_one_logit_a_class(name, arguments):
    model = build_model(name, arguments, **MNIST, code=OWN)
    assert model(torch.randn(3, 1, 28, 28)).shape == (3, 10)


def test_lazy_layers_have_their_sizes_before_anything_is_counted():
    architecture = Architecture("tests.models.test_networks:lazy", {"width": 5}, **MNIST, code=OWN)
    torch.manual_seed(3)
    model = architecture.build()
    assert model_size(model, (1, 28, 28)).parameters == 784 * 5 + 5 + 2 * 5 + 5 * 10 + 10
    assert all(module.training for module in model.modules())
    assert not model[2].running_mean.any()
    torch.manual_seed(3)
    assert torch.equal(architecture.build()[1].weight, model[1].weight)
    with torch.device("meta"):
        assert layer_outputs(architecture.build(), (1, 28, 28)) == {"1": (5, 1), "4": (10, 1)}


def test_a_model_of_torchvision_is_given_the_number_of_classes():
    name, arguments = "torchvision.models:squeezenet1_1", {"dropout": 0.1}
    with torch.device("meta"):
        model = build_model(name, arguments, (3, 64, 64), 7, OWN)
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(InputError, match="no model 'resnet19'; did you mean"):
        build_model("torchvision.models:resnet19", {}, (3, 64, 64), 7, OWN)
    for function in ("get_model", "list_models"):
        with pytest.raises(InputError, match="torchvision has no model"):
            build_model(f"torchvision.models:{function}", {}, (3, 64, 64), 7, OWN)
    with pytest.raises(InputError, match="is not imported here"):
        build_model(name, arguments, (3, 64, 64), 7)


def test_the_sizes_of_the_papers_networks_are_the_papers():
    small = model_size(build_model("lenet_5", {"conv1": 2, "conv2": 4, "fc": 8}, **MNIST), (1, 28, 28))
    assert small.parameters == 866
    wide = {"conv1": 16, "conv2": 1024, "fc": 1024}
    narrow = {"conv1": 4, "conv2": 2, "fc": 8}
    with torch.device("meta"):
        sizes = [model_size(build_model("lenet_5", a, **MNIST), (1, 28, 28)) for a in (wide, narrow)]
    # The paper counts convolution weights only: without the output layer's fc * 10.
    counts = [size.parameters_weights - 10 * a["fc"] for size, a in zip(sizes, (wide, narrow), strict=True)]
    assert counts == [17_187_216, 556]


@pytest.mark.parametrize("grouped", [1, 2])
def test_layers_alone_have_the_macs_that_torch_counts(grouped):
    from torch.utils.flop_counter import FlopCounterMode

    from aiq_search.models.size import _is_plain

    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, groups=grouped),
        nn.BatchNorm2d(4),
        nn.ELU(),
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten(2), nn.Linear(9, 5), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(20, 3),
    ).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 2, 14, 14))
    assert _is_plain(model)
    assert model_size(model, (2, 14, 14)).macs == counter.get_total_flops() // 2


def test_macs_are_counted_by_hand():
    size = model_size(build_model("lenet_5", {"conv1": 2, "conv2": 4, "fc": 8}, **MNIST), (1, 28, 28))
    assert size.macs == 24 * 24 * 25 * 2 + 8 * 8 * 25 * 2 * 4 + 16 * 4 * 8 + 8 * 10


def test_measuring_the_size_leaves_the_model_as_it_was():
    model = build_model("mlp", {"hidden1": 4, "batch_norm": True}, **MNIST)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model_size(model, (1, 28, 28))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_same_random_state_gives_the_same_weights():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(build_model("mlp", {"hidden1": 4}, **MNIST).hidden1.weight)
    assert torch.equal(*weights)


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x) if x.sum().item() >= 0 else x


def test_a_forward_that_needs_numbers_is_measured_too():
    assert model_size(Counting(), (4,)).macs == 8


def test_an_architecture_survives_its_document():
    architecture = Architecture("lenet_5", {"conv1": 2}, (1, 28, 28), 10)
    assert Architecture.from_document(architecture.document()) == architecture


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("lenet_6", {}, 'did you mean "lenet_5"'),
        ("lenet_5", {"conv3": 3}, "no argument 'conv3'; did you mean \"conv2\""),
        ("mlp", {"hiden1": 3}, 'did you mean "hidden1"'),
        ("mlp", {}, "needs a width for each hidden layer"),
        ("mlp", {"hidden1": 3, "hidden3": 3}, "missing: hidden2"),
        ("mlp", {"hidden1": 0}, "hidden1 must be a whole number >= 1, but got 0"),
        ("mlp", {"hidden1": True}, "hidden1 must be a whole number"),
        ("mlp", {"hidden1": 3, "dropout": 1.0}, "0 <= dropout < 1 must hold"),
        ("mlp", {"hidden1": 3, "activation": "rely"}, 'did you mean "relu"'),
        ("mlp", {"hidden1": 3, "activation": ["elu"]}, "unknown activation ['elu']"),
        ("mlp", {"hidden1": 3, "dropout": "half"}, "must hold, but got dropout='half'"),
        ("mlp", {"hidden1": 3, "batch_norm": "no"}, "batch_norm must be true or false, but got 'no'"),
        ("mlp", {"hidden1": 3, "depth": "two"}, "depth must be a whole number >= 1, but got 'two'"),
        ("mlp", {"hidden1": 3, "depth": 1.0}, "depth must be a whole number >= 1, but got 1.0"),
        ("mlp", {"hidden1": 3, "depth": 10_000_000}, "got depth=10,000,000, missing: hidden2"),
        ("lenet_5", {"conv1": {"low": 2}}, "conv1 must be a whole number >= 1"),
        ("lenet_5", {"activation": {"name": "elu"}}, "unknown activation {'name': 'elu'}"),
        ("no.such:thing", {}, "no module named 'no.such'"),
        ("tests.models.test_networks:nothing", {}, "has no function 'nothing'"),
        ("tests.models.test_networks:not_a_model", {}, "must return a torch.nn.Module, but returned str"),
        ("tests.models.test_networks:own_model", {"depth": 3}, "takes no argument 'depth'"),
        (
            "tests.models.test_networks:takes_no_shape",
            {},
            "cannot be called with input_shape, classes: got an unexpected keyword argument 'input_shape'",
        ),
    ],
)
def test_a_wrong_name_or_value_is_one_sentence(name, arguments, said):
    with pytest.raises(InputError, match=re.escape(said)):
        build_model(name, arguments, **MNIST, code=OWN)


def test_lenet_5_refuses_images_that_are_too_small():
    with pytest.raises(InputError, match="at least 16x16 pixels"):
        build_model("lenet_5", {}, (1, 8, 8), 10)


def test_the_shape_and_the_classes_are_not_arguments_of_a_file():
    with pytest.raises(InputError, match="takes no argument 'classes'"):
        check_argument_names("mlp", ["classes"])


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()], (3, 17, 30)),
        ([nn.Conv2d(1, 6, (3, 5), dilation=(2, 1)), nn.MaxPool2d((2, 3), stride=1, padding=1)], (1, 20, 20)),
        ([nn.MaxPool2d(3, ceil_mode=True), nn.Conv2d(2, 4, 3, padding="same")], (2, 10, 11)),
        ([nn.Flatten(), nn.Linear(24, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)], (2, 12)),
        ([nn.Linear(7, 5), nn.Linear(5, 3)], (4, 7)),
        ([nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(32, 2)], (3, 10)),
        ([nn.Sequential(nn.Linear(7, 5)), nn.Linear(5, 3)], (7,)),
    ],
)
def test_the_outputs_of_a_plain_sequence_are_those_of_a_pass(layers, shape):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(*layers)

        def forward(self, x):
            return self.inner(x)

    plain = nn.Sequential(*layers)
    by_a_pass = layer_outputs(Wrapped(), shape)
    assert {f"inner.{name}": size for name, size in layer_outputs(plain, shape).items()} == by_a_pass
    assert by_a_pass
    assert model_size(plain, shape) == model_size(Wrapped(), shape)
