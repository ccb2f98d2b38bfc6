"""Neurons that tell nothing go, and the function stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aiq_search.datasets import Dataset, DatasetOptions, load_dataset
from aiq_search.errors import InputError
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
