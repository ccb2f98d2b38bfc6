"""resnet and mobilenet_v2: torchvision's own where nothing is changed, and what changes them."""

import re

import pytest
import torch
from torch import nn
from torchvision import models

from aiq_search.errors import InputError
from aiq_search.models import build_model, layer_outputs, model_size
from aiq_search.statespace import StateCapture

CIFAR = (3, 32, 32)


def assert_same(ours, theirs, shape):
    """The same parameters in the same order give the same numbers."""
    state = theirs.state_dict()
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)))
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in state.values()]
    x = torch.randn(2, *shape)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert model_size(ours, shape) == model_size(theirs, shape)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {}),
        ("resnet34", {"blocks1": 3, "blocks2": 4, "blocks3": 6, "blocks4": 3}),
        ("resnet50", {"block": "bottleneck", "blocks1": 3, "blocks2": 4, "blocks3": 6, "blocks4": 3}),
    ],
)
def test_a_resnet_of_the_usual_widths_is_torchvisions(name, arguments):
    shape = (3, 64, 64)
    ours = build_model("resnet", {"stem": "large", **arguments}, shape, 12)
    assert_same(ours, models.get_model(name, num_classes=12), shape)


@pytest.mark.parametrize("multiplier", [0.35, 0.5, 1.0, 1.4])
def test_mobilenet_v2_of_any_multiplier_is_torchvisions(multiplier):
    shape = (3, 64, 64)
    ours = build_model("mobilenet_v2", {"width_multiplier": multiplier}, shape, 7)
    assert_same(ours, models.mobilenet_v2(width_mult=multiplier, num_classes=7), shape)


def test_widths_blocks_and_strides_are_those_of_the_stage():
    arguments = {"depth": 2, "width1": 6, "width2": 10, "blocks2": 3, "stride2": 1, "width_multiplier": 0.5}
    model = build_model("resnet", arguments, CIFAR, 10)
    assert [layer.conv1.out_channels for layer in (model.layer1[0], model.layer2[0])] == [3, 5]
    assert (len(model.layer1), len(model.layer2)) == (2, 3)
    assert layer_outputs(model, CIFAR)["layer2.0.conv1"] == (5, 32 * 32)
    small = {"depth": 2, "stem_width": 6, "stem_stride": 1, "divisor": 1, "last_width": 11}
    small |= {"width1": 3, "width2": 5, "expansion2": 2, "blocks2": 1, "stride2": 1}
    model = build_model("mobilenet_v2", small, (1, 28, 28), 10)
    outputs = layer_outputs(model, (1, 28, 28))
    assert list(outputs.values()) == [
        *((6, 784), (6, 784), (3, 784)),  # the stem; a filter a channel, and to the width of stage 1
        *((6, 784), (6, 784), (5, 784), (11, 784), (10, 1)),
    ]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("resnet", {"width_multiplier": 0.1}), ("mobilenet_v2", {"width_multiplier": 0.1, "last_width": 32})],
)
def test_every_layer_but_the_output_is_measured(name, arguments):
    model = build_model(name, arguments, CIFAR, 10).eval()
    with StateCapture(model) as capture, torch.no_grad():
        assert model(torch.randn(4, *CIFAR)).shape == (4, 10)
    layers = [n for n, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert set(capture.compute()) == set(layers[:-1])


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "said"),
    [
        ("resnet", {}, (3, 8), "resnet takes images of shape (C, H, W), but a sample has the shape (3, 8)"),
        ("resnet", {"depth": 9}, CIFAR, "resnet has at most 8 stages, but got depth=9"),
        ("resnet", {"block": "wide"}, CIFAR, "block must be basic or bottleneck, but got 'wide'"),
        ("resnet", {"blocks1": 0}, CIFAR, "blocks1 must be a whole number >= 1"),
        ("resnet", {"width_multiplier": 0}, CIFAR, "0 < width_multiplier <= 100 must hold"),
        ("resnet", {"kernel1": 3}, CIFAR, "takes no argument 'kernel1'"),
        ("mobilenet_v2", {"depth": 8}, CIFAR, "mobilenet_v2 has at most 7 stages, but got depth=8"),
        ("mobilenet_v2", {"divisor": 0}, CIFAR, "divisor must be a whole number >= 1"),
        ("mobilenet_v2", {"stride3": 3}, CIFAR, "stride3 must be 1 or 2, but got 3"),
        ("mobilenet_v2", {"expansion3": 0.5}, CIFAR, "expansion3 must be a whole number >= 1, but got 0.5"),
    ],
)
def test_a_wrong_argument_is_one_sentence(name, arguments, shape, said):
    with pytest.raises(InputError, match=re.escape(said)):
        build_model(name, arguments, shape, 10)
