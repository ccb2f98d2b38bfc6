"""Neurons that tell nothing go, and the function stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aiq_search.datasets import Dataset, DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.export import slimming
from aiq_search.export.slimming import logits_of, slim
from aiq_search.models import Architecture


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(
        path, x_train=random.integers(0, 256, (300, 2, 20, 16), dtype=np.uint8), y_train=np.arange(300) % 4
    )
    return load_dataset(DatasetOptions(name=str(path)))


def _built(architecture, seed=0):
    torch.manual_seed(seed)
    network = architecture.build().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 and "norm" not in name:  # norms keep signs: what is off stays off
                parameter.normal_(std=0.1)
    return network, network.state_dict()


def _slim(architecture, state, dataset, max_drop=0.0):
    return slim(architecture, state, dataset, dataset.normalization, max_drop=max_drop)


def _difference(network, slimmed, dataset):
    smaller = slimmed.architecture.build().eval()
    smaller.load_state_dict(slimmed.weights)
    one, other = (logits_of(each, dataset.train, dataset.normalization) for each in (network, smaller))
    return float((one - other).abs().max() / one.abs().max())


def test_dead_constant_and_doubled_neurons_go_and_the_function_stays(digits):
    architecture = Architecture("mlp", {"hidden1": 12, "hidden2": 9, "activation": "relu"}, (1, 8, 8), 10)
    network, state = _built(architecture, seed=1)  # no other neuron is constant
    with torch.no_grad():
        network.hidden1.weight[3] = 0
        network.hidden1.bias[3] = -5.0  # never fires
        network.hidden1.weight[7] = 0
        network.hidden1.bias[7] = 2.0  # always fires, always as much
        network.hidden1.weight[11] = 3 * network.hidden1.weight[5]
        network.hidden1.bias[11] = 3 * network.hidden1.bias[5]
        network.hidden2.bias[0] = -1e3
    found = _slim(architecture, state, digits)
    gone = {(each.layer, each.neuron): each for each in found.removed}
    assert gone["hidden1", 3].why == "always off"
    assert gone["hidden1", 7].why == "always on"
    assert gone["hidden1", 11].why == "in sync with neuron 5"
    assert gone["hidden2", 0].why == "always off"
    assert all(each.unexplained < 1e-6 for each in found.removed)
    assert found.architecture.arguments["hidden1"] == 12 - sum(layer == "hidden1" for layer, _ in gone)
    assert _difference(network, found, digits) < 1e-5


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_channel_goes_from_every_layer_of_a_convolutional_network(images, batch_norm):
    arguments = {"conv1": 3, "conv2": 4, "fc": 5, "activation": "relu", "batch_norm": batch_norm}
    architecture = Architecture("lenet_5", arguments, (2, 20, 16), 4)
    network, state = _built(architecture)
    with torch.no_grad():
        for name, neuron, twin in (("conv1", 2, 0), ("conv2", 3, 1), ("fc", 4, 2)):
            for key, tensor in state.items():
                if key.startswith((f"{name}.", f"{name}_norm.")) and tensor.ndim:
                    tensor[neuron] = tensor[twin]
    found = _slim(architecture, state, images)
    assert {("conv1", 2), ("conv2", 3), ("fc", 4)} <= {(each.layer, each.neuron) for each in found.removed}
    assert _difference(network, found, images) < 1e-4
    smaller = found.architecture.build()
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    random = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("data") / "signals.npz"
    np.savez(path, x_train=random.normal(size=(300, 2, 40)).astype("f4"), y_train=np.arange(300) % 4)
    return load_dataset(DatasetOptions(name=str(path)))


CNNS = {
    "padded": {},
    "without padding": {"padding": "valid"},
    "batch norm": {"batch_norm": True},
    "batch norm, without padding": {"batch_norm": True, "padding": "valid"},
    "separable": {"convolution": "separable"},
    "separable, without padding": {"convolution": "separable", "padding": "valid"},
    "separable, batch norm": {"convolution": "separable", "batch_norm": True},
    "strided": {"downsampling": "strided"},
    "flattened": {"global_pooling": False, "downsampling": "average_pool"},
}


def _spoilt_cnn(name, arguments, dataset):
    """A network with a channel that never fires, one that always gives as much, and twins; its state."""
    arguments = {"depth": 2, "width": 5, "width2": 6, "stride": 2, **arguments}
    architecture = Architecture(name, arguments, dataset.input_shape, 4)
    network, state = _built(architecture, seed=3)
    last = "norm" if arguments.get("batch_norm") else ""
    with torch.no_grad():
        for layer in ("conv1", "conv2"):
            scaling = f"{layer}_{last}" if last else layer
            for key in (f"{layer}.", f"{layer}_norm."):
                for other in [k for k in state if k.startswith(key) and state[k].ndim]:
                    state[other][1] = state[other][0]  # a twin
            state[f"{layer}.weight"][2:4] = 0
            if last:  # a state is that of the convolution's output: always off
                state[f"{scaling}.running_mean"][2:4] = 0
            state[f"{scaling}.bias"][2:4] = torch.tensor([-1.0, 2.0])
        if "conv2_depthwise.weight" in state:  # twins stay so
            state["conv2_depthwise.weight"][1] = state["conv2_depthwise.weight"][0]
    return architecture, network, state


@pytest.mark.parametrize("arguments", CNNS.values(), ids=CNNS)
@pytest.mark.parametrize("name", ["cnn", "cnn_1d"])
def test_channels_of_a_cnn_go_and_the_function_stays(images, signals, name, arguments, monkeypatch):
    def spoilt(layer):  # no channel that is constant by chance, and not exactly
        return [(neuron, why) for neuron, why in candidates(layer) if neuron in (1, 2, 3)]

    candidates = slimming._candidates
    monkeypatch.setattr(slimming, "_candidates", spoilt)
    dataset = images if name == "cnn" else signals
    architecture, network, state = _spoilt_cnn(name, arguments, dataset)
    with torch.no_grad():  # without a constant in front of zeros, which nothing could take
        if arguments.get("padding") != "valid":
            scaling = "conv1_norm" if arguments.get("batch_norm") else "conv1"
            state[f"{scaling}.bias"][3] = -2.0
    found = _slim(architecture, state, dataset)
    gone = {(each.layer, each.neuron): each for each in found.removed}
    assert gone.keys() == {(layer, neuron) for layer in ("conv1", "conv2") for neuron in (1, 2, 3)}
    assert found.architecture.arguments["width1"] == 2
    assert found.architecture.arguments["width2"] == 3
    assert found.architecture.arguments["depth"] == 2
    assert all(each.unexplained < 1e-5 for each in found.removed)
    assert _difference(network, found, dataset) < 1e-4


def test_a_constant_in_front_of_zeros_is_not_folded_and_what_is_lost_is_said(images):
    architecture, _, state = _spoilt_cnn("cnn", {}, images)
    found = _slim(architecture, state, images, max_drop=1.0)
    (constant,) = (each for each in found.removed if (each.layer, each.neuron) == ("conv1", 3))
    assert constant.why == "always on"
    assert constant.unexplained > 0.01


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"residual": True}, "networks with residual: true cannot be slimmed"),
        ({"convolution2": "grouped"}, "networks with convolution: grouped cannot be slimmed"),
    ],
)
def test_a_cnn_whose_channels_cannot_go_alone_is_refused(images, arguments, sentence):
    architecture = Architecture("cnn", {"depth": 2, "width": 4, **arguments}, images.input_shape, 4)
    with pytest.raises(InputError, match=sentence):
        _slim(architecture, architecture.build().state_dict(), images)


def test_a_removal_that_costs_accuracy_is_left_out(digits, contents):
    architecture = Architecture("mlp", {"hidden1": 6, "activation": "elu"}, (1, 8, 8), 10)
    network, state = _built(architecture)
    with torch.no_grad():
        network.hidden1.bias += 100  # every neuron always fires, and all tell much
    found = _slim(architecture, state, digits, max_drop=-1.0)
    assert not found.removed
    assert found.kept == 6
    assert found.architecture.arguments["hidden1"] == 6


def test_a_layer_keeps_one_neuron(digits):
    architecture = Architecture("mlp", {"hidden1": 4, "activation": "relu"}, (1, 8, 8), 10)
    network, state = _built(architecture)
    with torch.no_grad():
        network.hidden1.bias -= 1e4
    found = _slim(architecture, state, digits)
    assert found.architecture.arguments["hidden1"] == 1
    assert _difference(network, found, digits) < 1e-6


def test_the_network_itself_is_left_as_it_was(digits):
    architecture = Architecture("mlp", {"hidden1": 4, "activation": "relu"}, (1, 8, 8), 10)
    network, state = _built(architecture)
    with torch.no_grad():
        network.hidden1.bias[0] = -1e4
    before = {name: tensor.clone() for name, tensor in state.items()}
    _slim(architecture, state, digits)
    assert all(state[name].equal(tensor) for name, tensor in before.items())


def test_a_network_whose_widths_have_other_names_is_refused(digits):
    from aiq_search.user_code import CodePolicy

    code = CodePolicy.for_running(["tests"])
    for function, sentence in (
        ("named_otherwise", "has no argument of its name"),
        ("no_sequence", "no sequence"),
    ):
        architecture = Architecture(f"{__name__}:{function}", {"width": 4}, (1, 8, 8), 10, code)
        with pytest.raises(InputError, match=sentence):
            _slim(architecture, architecture.build().state_dict(), digits)


def named_otherwise(input_shape, classes, width):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))


def no_sequence(input_shape, classes, width):
    from torch import nn

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = named_otherwise(input_shape, classes, width)

        def forward(self, x):
            return self.layers(x)

    return Own()
