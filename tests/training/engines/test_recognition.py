import pytest
import torch
from torch import nn

from aiq_search.models import Architecture
from aiq_search.training.engines.compiled.recognition import UnknownNetworkError, recognise

IMAGE = (1, 12, 12)


def small(*before: nn.Module) -> nn.Sequential:
    """The modules given, on 12 x 12 images, and the output layer for what they give."""
    model = nn.Sequential(*before, nn.Flatten())
    features = model(torch.zeros(2, *IMAGE)).shape[1]
    model.append(nn.Linear(features, 3))
    return model


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", ["elu", "relu", "leaky_relu", "tanh"])
def test_our_own_networks_are_known(batch_norm, activation):
    shape = (1, 28, 28)
    further = {"dropout": 0.2, "batch_norm": batch_norm, "activation": activation}
    lenet = Architecture("lenet_5", {"conv1": 2, "conv2": 4, "fc": 8, **further}, shape, 10).build()
    stages = recognise(lenet, shape)
    assert [stage.name for stage in stages] == ["conv1", "conv2", "fc", "output"]
    assert [stage.pooled for stage in stages] == [(2, 12, 12), (4, 4, 4), (8, 1, 1), (10, 1, 1)]
    assert [stage.is_matrix for stage in stages] == [False, False, True, True]
    mlp = Architecture("mlp", {"hidden1": 5, "hidden2": 4, **further}, shape, 10).build()
    assert [stage.name for stage in recognise(mlp, shape)] == ["hidden1", "hidden2", "output"]


@pytest.mark.parametrize("downsampling", ["max_pool", "strided"])
@pytest.mark.parametrize("global_pooling", [False, True])
def test_a_plain_cnn_is_known(downsampling, global_pooling):
    shape = (1, 28, 28)
    arguments = {"width1": 3, "width2": 5, "stride": 2, "dropout": 0.0 if global_pooling else 0.1}
    arguments |= {"downsampling": downsampling, "global_pooling": global_pooling, "batch_norm": True}
    stages = recognise(Architecture("cnn", arguments, shape, 10).build(), shape)
    assert [stage.name for stage in stages] == ["conv1", "conv2", "output"]
    assert [stage.pooled for stage in stages] == [(3, 14, 14), (5, 7, 7), (10, 1, 1)]
    assert stages[-1].averaged == global_pooling


@pytest.mark.parametrize("convolution", ["separable", "grouped"])
def test_a_narrow_cnn_of_groups_is_known(convolution):
    arguments = {"width": 4, "depth": 2, "convolution": convolution, "convolution1": "plain"}
    stages = recognise(Architecture("cnn", arguments, IMAGE, 10).build(), IMAGE)
    assert [stage.groups > 1 for stage in stages].count(True) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"convolution": "separable", "width1": 17},
        {"convolution": "grouped", "width1": 18, "width2": 6},
        {"residual": True, "width1": 5},
        {"downsampling": "average_pool", "stride": 2},
        {"dropout": 0.1},
    ],
)
def test_other_cnns_are_not(arguments):
    model = Architecture("cnn", {"width1": 3, "width2": 5, **arguments}, IMAGE, 10).build()
    with pytest.raises(UnknownNetworkError):
        recognise(model, IMAGE)


def test_a_users_nested_sequence_is_known_by_its_names():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True), nn.Identity()),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.1)),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    stages = recognise(model, IMAGE)
    assert [stage.name for stage in stages] == ["0.0", "1.0", "3"]
    assert [stage.pooled for stage in stages] == [(4, 6, 6), (6, 2, 2), (3, 1, 1)]


class Own(nn.Module):
    def forward(self, x):
        return x


class OwnLinear(nn.Linear):
    pass


def hooked():
    model = small(nn.Conv2d(1, 2, 3), nn.ReLU())
    model[0].register_forward_hook(lambda *_: None)
    return model


def frozen():
    model = small(nn.Conv2d(1, 2, 3), nn.ReLU())
    model[0].weight.requires_grad_(False)
    return model


def shared():
    layer = nn.Linear(5, 5)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 5), layer, nn.ReLU(), layer, nn.Linear(5, 3))


def tied():
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    model[4].weight = model[2].weight
    return model


def with_a_spare_parameter():
    model = small(nn.Conv2d(1, 2, 3), nn.ReLU())
    model.register_parameter("spare", nn.Parameter(torch.zeros(3)))
    return model


def patched():
    model = small(nn.Conv2d(1, 2, 3), nn.ReLU())
    model[1].forward = lambda x: x
    return model


UNKNOWN = {
    "a module of one's own": lambda: small(nn.Conv2d(1, 2, 3), Own()),
    "a subclass": lambda: nn.Sequential(nn.Flatten(), OwnLinear(144, 4), nn.Linear(4, 3)),
    "not a sequence": lambda: nn.ModuleList([nn.Linear(144, 3)]),
    "hooks": hooked,
    "frozen": frozen,
    "used twice": shared,
    "tied weights": tied,
    "a parameter that no module uses": with_a_spare_parameter,
    "a forward of its own": patched,
    "float64": lambda: small(nn.Conv2d(1, 2, 3)).double(),
    "no hidden layer": lambda: small(),
    "images as logits": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 10)),
    "linear on images": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(10, 3)),
    "gelu": lambda: small(nn.Conv2d(1, 2, 3), nn.GELU()),
    "many channels in groups": lambda: small(nn.Conv2d(1, 18, 3), nn.Conv2d(18, 18, 3, groups=2)),
    "dilation": lambda: small(nn.Conv2d(1, 2, 3, dilation=2)),
    "two strides": lambda: small(nn.Conv2d(1, 2, 3, stride=(1, 2))),
    "reflecting border": lambda: small(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")),
    "same padding": lambda: small(nn.Conv2d(1, 2, 3, padding="same")),
    "a border as large as the filter": lambda: small(nn.Conv2d(1, 2, 1, padding=1)),
    "overlapping pools": lambda: small(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2)),
    "mean pool": lambda: small(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2)),
    "a mean of means": lambda: nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(2, 3))
    ),
    "an activation of means": lambda: small(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.ReLU()),
    "means of parts": lambda: small(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(2)),
    "two pools": lambda: small(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.MaxPool2d(2)),
    "norm behind activation": lambda: small(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2)),
    "norm behind pool": lambda: small(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.BatchNorm2d(2)),
    "norm without momentum": lambda: small(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, momentum=None)),
    "norm without weights": lambda: small(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False)),
    "pool behind dropout": lambda: small(nn.Conv2d(1, 2, 3), nn.Dropout(0.5), nn.MaxPool2d(2)),
    "dropout of everything": lambda: small(nn.Conv2d(1, 2, 3), nn.Dropout(1.0)),
    "two activations": lambda: small(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Tanh()),
    "an activation that falls": lambda: small(nn.Conv2d(1, 2, 3), nn.LeakyReLU(-0.1)),
    "begins with dropout": lambda: small(nn.Dropout(0.1), nn.Conv2d(1, 2, 3)),
}


@pytest.mark.parametrize("why", sorted(UNKNOWN))
def test_what_is_not_known_is_said(why):
    with pytest.raises(UnknownNetworkError, match=r"\w"):
        recognise(UNKNOWN[why](), IMAGE)


def test_samples_that_are_neither_images_nor_features_are_not_known():
    with pytest.raises(UnknownNetworkError, match="shape"):
        recognise(nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2)), (2, 4))
