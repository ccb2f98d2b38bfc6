"""What a sample costs: bytes of activations, as the card has them, and milliseconds through ONNX Runtime."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from aiq_search.errors import InputError
from aiq_search.lowering import costs as costs_module
from aiq_search.lowering.costs import CostMeter, activation_bytes, latency
from aiq_search.lowering.float_onnx import float_model, traced_onnx
from aiq_search.lowering.onnx_extra import onnx_runner
from aiq_search.lowering.planning import RawInputs, plan_network
from aiq_search.models import build_model

RAW = RawInputs("uint8", (3, 16, 16), scale=(0.01, 0.02, 0.03), shift=(-1, 0, 1))
PLAIN = {"depth": 2, "width": 4, "stride": 2, "batch_norm": True}
RESIDUAL = {**PLAIN, "stride": 1, "residual": True}


def network_of(arguments):
    torch.manual_seed(0)
    return build_model("cnn", arguments, RAW.input_shape, 5).eval()


@pytest.fixture
def sample():
    return np.random.default_rng(0).integers(0, 256, (1, *RAW.input_shape), dtype=np.uint8)


@pytest.mark.parametrize("arguments", [PLAIN, RESIDUAL], ids=["planned", "traced"])
def test_the_onnx_whose_time_is_taken_is_the_network(arguments, sample):
    network = network_of(arguments)
    if arguments is PLAIN:
        content = float_model(plan_network(network, RAW)).SerializeToString()
    else:
        content = traced_onnx(network, RAW)
    channels = (-1, 1, 1)
    scale, shift = (torch.tensor(numbers).reshape(channels) for numbers in (RAW.scale, RAW.shift))
    with torch.inference_mode():
        expected = network(torch.from_numpy(sample) * scale + shift).numpy()
    given = onnx_runner(content)(sample)
    np.testing.assert_allclose(given["logits"], expected, rtol=1e-4, atol=1e-5)
    assert given["probabilities"].sum() == pytest.approx(1)


def test_activations_are_the_largest_input_and_output_together():
    raw = RawInputs("uint8", (1, 6, 6), scale=(1,), shift=(0,))
    layers = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(32, 2))
    assert activation_bytes(plan_network(nn.Sequential(*layers), raw)) == {
        "float32": 4 * (4 * 4 * 4 + 8 * 2 * 2),  # the first and the second convolution's outputs
        "int8": 4 * 4 * 4 + 8 * 2 * 2,
    }


def test_a_sample_s_costs(sample):
    meter = CostMeter()
    found = meter.costs(["activation_bytes", "latency_ms"], "a", network_of(PLAIN), RAW, sample)
    assert set(found) == {"activation_bytes", "latency_ms", "latency_ms_iqr"}
    assert 0 < found["latency_ms"] < 1000
    assert found["latency_ms_iqr"] >= 0
    assert set(meter.costs(["activation_bytes"], "a", network_of(PLAIN), RAW, sample)) == {"activation_bytes"}


def test_an_onnx_is_made_once_for_each_architecture_and_the_last_ones_are_kept(sample, monkeypatch):
    made = []

    def onnx_of(network, preprocessing):
        made.append(network)
        return float_model(plan_network(network, preprocessing)).SerializeToString()

    monkeypatch.setattr(costs_module, "_onnx", onnx_of)
    monkeypatch.setattr(costs_module, "_WARM_UP_SECONDS", 1e-4)
    monkeypatch.setattr(costs_module, "_BLOCK_SECONDS", 1e-5)
    meter, network = CostMeter(), network_of(PLAIN)
    for name in ("a", "b", "a", *map(str, range(7)), "a", "b"):
        meter.costs(["latency_ms"], name, network, RAW, sample)
    assert len(made) == 2 + 7 + 1  # b had to make room


def busy(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_time_is_of_a_call_and_of_this_thread():
    taken = latency(busy, 0.002)
    assert 2 <= taken.median < 4
    assert taken.iqr < taken.median


def test_a_network_that_takes_long_is_called_a_few_times():
    calls = []

    def run(seconds):
        calls.append(seconds)
        busy(seconds)

    assert latency(run, 0.3).median >= 300
    assert len(calls) <= 8


class Eigenvalues(nn.Module):
    """ONNX has no operator for eigenvalues."""

    def forward(self, x):
        return torch.linalg.eigvals(x[:, 0, :5, :5]).real.sum(2)


def test_what_onnx_cannot_express_is_a_sentence(sample):
    with pytest.raises(InputError, match=r"^torch\.onnx cannot translate this network \(.+\)$") as error:
        CostMeter().costs(["latency_ms"], "a", Eigenvalues(), RAW, sample)
    assert "\n" not in str(error.value)


def test_a_network_without_a_device_format_has_no_bytes_of_activations(sample):
    with pytest.raises(InputError, match="is a Residual, for which there is no device format"):
        CostMeter().costs(["activation_bytes"], "a", network_of(RESIDUAL), RAW, sample)
