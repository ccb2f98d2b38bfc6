"""The convolutional families: what they consist of, how large they are, and what they refuse."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aiq_search.errors import InputError
from aiq_search.models import build_model, check_argument_names, layer_outputs, model_size
from aiq_search.models.layers import Residual
from aiq_search.statespace import StateCapture

IMAGE = (1, 28, 28)


def cnn(shape=IMAGE, classes=10, **arguments):
    return build_model("cnn", arguments, shape, classes)


def counted(model, shape):
    """Parameters and multiply-accumulates as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


def test_parameters_and_macs_are_counted_by_hand():
    size = model_size(cnn(width1=4, width2=6, width3=8, stride=2), IMAGE)
    convolutions = 9 * 1 * 4, 9 * 4 * 6, 9 * 6 * 8
    assert size.parameters_weights == sum(convolutions) + 8 * 10
    assert size.parameters == sum(convolutions) + 4 + 6 + 8 + 8 * 10 + 10
    assert size.macs == 28**2 * convolutions[0] + 14**2 * convolutions[1] + 7**2 * convolutions[2] + 80
    strided = model_size(cnn(width1=4, width2=6, width3=8, stride=2, downsampling="strided"), IMAGE)
    assert strided.parameters == size.parameters
    assert strided.macs == 14**2 * convolutions[0] + 7**2 * convolutions[1] + 4**2 * convolutions[2] + 80


def test_a_separable_convolution_has_a_filter_a_channel_and_one_bias():
    size = model_size(cnn(width1=4, width2=6, convolution="separable", convolution1="plain"), IMAGE)
    assert size.parameters == (9 * 4 + 4) + (9 * 4 + 4 * 6 + 6) + (6 * 10 + 10)


def test_a_grouped_convolution_takes_the_most_groups_that_fit():
    model = cnn(width1=6, width2=9, width3=8, convolution="grouped", groups=4)
    assert [model.conv1.groups, model.conv2.groups, model.conv3.groups] == [1, 3, 1]
    assert cnn(width1=8, width2=8, convolution2="grouped", groups=4).conv2.groups == 4


def test_a_value_of_one_stage_goes_before_that_of_all():
    model = cnn(depth=3, width=5, width2=7, kernel=5, kernel3=3, stride2=2, downsampling="strided")
    assert [model.conv1.out_channels, model.conv2.out_channels, model.conv3.out_channels] == [5, 7, 5]
    assert [layer.kernel_size[0] for layer in (model.conv1, model.conv2, model.conv3)] == [5, 5, 3]
    assert [layer.stride[0] for layer in (model.conv1, model.conv2, model.conv3)] == [1, 2, 1]


def test_what_lies_beyond_the_depth_is_left_out():
    assert not hasattr(cnn(depth=2, width1=4, width2=4, width3=4), "conv3")


def test_a_batch_norm_takes_the_place_of_the_biases():
    model = cnn(width1=4, width2=6, batch_norm=True, convolution2="separable", head=5)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [layer.bias for layer in layers] == [None] * 3
    assert model_size(model, IMAGE).parameters == 36 + 8 + (36 + 24) + 12 + (6 * 5 + 5) + 10 + 50 + 10


def test_a_residual_stage_adds_its_input_where_the_shape_is_kept():
    model = cnn(depth=3, width=4, width3=6, residual=True, batch_norm=True, stride2=2).eval()
    assert [name for name, module in model.named_modules() if isinstance(module, Residual)] == ["residual2"]
    x = torch.randn(2, 4, 28, 28)
    inner = model.residual2
    torch.testing.assert_close(inner(x), x + inner.conv2_norm(inner.conv2(x)))
    strided = cnn(depth=2, width=4, residual=True, stride2=2, downsampling="strided")
    assert not any(isinstance(module, Residual) for module in strided.modules())


def test_the_end_is_a_mean_or_everything_and_a_head_or_none():
    assert cnn(width1=4, stride=2).output.in_features == 4
    assert cnn(width1=4, stride=2, global_pooling=False).output.in_features == 4 * 14 * 14
    model = cnn(width1=4, stride=4, head=7, dropout=0.2)
    assert (model.head.in_features, model.output.in_features) == (4, 7)
    assert [type(m).__name__ for m in model][-4:] == ["Linear", "ReLU", "Dropout", "Linear"]


@st.composite
def networks(draw):
    """Any network of either family, and the shape of its samples."""
    axes = draw(st.integers(1, 2))
    length = draw(st.integers(16, 40))
    shape = (draw(st.integers(1, 3)), *[length] * axes)
    depth = draw(st.integers(1, 4))
    arguments = {
        "depth": depth,
        "downsampling": draw(st.sampled_from(["max_pool", "average_pool", "strided"])),
        "padding": draw(st.sampled_from(["same", "valid"])),
        "groups": draw(st.integers(1, 4)),
        **{name: draw(st.booleans()) for name in ("residual", "batch_norm", "global_pooling")},
        "head": draw(st.sampled_from([0, 3])),
        "dropout": draw(st.sampled_from([0.0, 0.2])),
        "activation": draw(st.sampled_from(["relu", "elu", "silu"])),
    }
    for i in range(1, depth + 1):
        arguments[f"width{i}"] = draw(st.integers(1, 6))
        arguments[f"kernel{i}"] = draw(st.integers(1, 3))
        arguments[f"stride{i}"] = draw(st.integers(1, 2)) if i < 3 else 1
        arguments[f"convolution{i}"] = draw(st.sampled_from(["plain", "separable", "grouped"]))
    return ("cnn_1d" if axes == 1 else "cnn"), arguments, shape


@settings(max_examples=60, deadline=None)
@given(case=networks())
def test_any_network_has_the_size_that_torch_counts_and_the_layers_that_run(case):
    name, arguments, shape = case
    try:
        model = build_model(name, arguments, shape, 7)
    except InputError as error:
        assert "positions, too few for" in str(error)  # noqa: PT017 - some of these networks are too deep
        return
    model.eval()
    assert model(torch.randn(3, *shape)).shape == (3, 7)
    size = model_size(model, shape)
    assert (size.parameters, size.macs) == counted(model, shape)
    outputs = layer_outputs(model, shape)
    with StateCapture(model) as capture, torch.no_grad():
        model(torch.randn(4, *shape))
    states = capture.compute()
    assert list(states) == list(outputs)[:-1]
    assert list(outputs)[-1] == "output"
    observations = {layer: 4 * places for layer, (_, places) in outputs.items()}
    assert all(counts.observations == observations[layer] for layer, counts in states.items())


def test_the_sizes_are_known_without_a_pass_on_the_meta_device():
    arguments = {"width1": 4, "width2": 4, "residual": True, "convolution": "separable", "batch_norm": True}
    with torch.device("meta"):
        model = cnn(**arguments, downsampling="average_pool", stride=2)
    model.register_forward_pre_hook(lambda *_: pytest.fail("a pass was made"))
    assert model_size(model, IMAGE).macs > 0


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "said"),
    [
        ("cnn", {}, IMAGE, "cnn needs depth, the number of stages, or a width for each"),
        ("cnn", {"depth": 0}, IMAGE, "depth must be a whole number >= 1, but got 0"),
        ("cnn", {"depth": 2_000}, IMAGE, "at most 1,000 stages, but got depth=2,000"),
        ("cnn", {"width1": 0}, IMAGE, "width1 must be a whole number >= 1, but got 0"),
        ("cnn", {"depth": 1, "kernel": "3"}, IMAGE, "kernel must be a whole number >= 1, but got '3'"),
        ("cnn", {"depth": 1, "stride1": 1.5}, IMAGE, "stride1 must be a whole number >= 1, but got 1.5"),
        (
            "cnn",
            {"depth": 1, "convolution": "deep"},
            IMAGE,
            "convolution must be plain, separable or grouped",
        ),
        ("cnn", {"depth": 1, "groups": 0}, IMAGE, "groups must be a whole number >= 1"),
        ("cnn", {"depth": 1, "downsampling": "max"}, IMAGE, "must be max_pool, average_pool or strided"),
        ("cnn", {"depth": 1, "padding": 1}, IMAGE, "padding must be same or valid, but got 1"),
        ("cnn", {"depth": 1, "residual": 1}, IMAGE, "residual must be true or false, but got 1"),
        ("cnn", {"depth": 1, "global_pooling": "yes"}, IMAGE, "global_pooling must be true or false"),
        ("cnn", {"depth": 1, "head": -1}, IMAGE, "head must be a whole number >= 1, but got -1"),
        ("cnn", {"depth": 1, "head": False}, IMAGE, "head must be a whole number >= 1, but got False"),
        ("cnn", {"depth": 1, "wdth1": 3}, IMAGE, "no argument 'wdth1'; did you mean \"width1\"?"),
        ("cnn", {"depth": 6, "stride": 2}, IMAGE, "stage 5 sees 1 x 1 positions, too few for pooling by 2"),
        (
            "cnn",
            {"depth": 1, "kernel": 29, "padding": "valid"},
            IMAGE,
            "28 x 28 positions, too few for filters",
        ),
        (
            "cnn",
            {"depth": 1},
            (3, 8),
            "cnn takes images of shape (C, H, W), but a sample has the shape (3, 8)",
        ),
        ("cnn_1d", {"depth": 1}, IMAGE, "cnn_1d takes signals of shape (C, L), but a sample has the shape"),
    ],
)
def test_a_wrong_argument_is_one_sentence(name, arguments, shape, said):
    with pytest.raises(InputError, match=re.escape(said)):
        build_model(name, arguments, shape, 10)


def test_the_arguments_of_a_stage_are_known_by_name():
    check_argument_names("cnn", ["width12", "convolution3", "kernel1", "stride2", "head"])
    with pytest.raises(InputError, match="takes no argument 'width0'"):
        check_argument_names("cnn_1d", ["width0"])
