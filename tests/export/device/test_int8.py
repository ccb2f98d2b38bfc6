"""Eight bits: near the float32 network, and the C file equal to onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from aiq_search.export.device.c_int8 import int8_c_files
from aiq_search.export.device.compiler import run_c
from aiq_search.export.device.planning import plan_network
from aiq_search.export.device.quantization import NAME, Quantised, dequantised, quantised_onnx
from aiq_search.export.errors import BundleError
from aiq_search.export.onnx_file import load_onnx
from tests.export.device.conftest import SANITIZED, Case


@pytest.fixture(scope="session")
def quantised(case: Case):
    plan = plan_network(case.network, case.raw)
    content = quantised_onnx(plan, case.samples)
    return plan, content, Quantised.of(content)


def test_its_logits_are_near_those_of_float32(case, quantised):
    logits, exact = load_onnx(quantised[1], NAME)(case.samples)["logits"], case.logits()
    assert np.abs(logits - exact).max() < 0.12 * (exact.max() - exact.min())


def test_the_c_file_gives_the_logits_of_onnxruntime_or_is_one_step_away(case, quantised):
    plan, content, read = quantised
    files = int8_c_files(plan, read)
    logits = run_c("model_int8", files, case.samples, plan.classes, flags=SANITIZED)["logits"]
    steps = np.rint(
        np.abs(logits - load_onnx(content, NAME)(case.samples)["logits"]) / read.range(plan.parts)[0]
    )
    averages = any("AveragePool" in str(each) for each in (content,))
    assert steps.max() <= (1 if averages else 0)


def test_weights_have_seven_bits_so_that_no_processor_saturates(quantised):
    plan, _, read = quantised
    for number, step in enumerate(plan.steps):
        if step in plan.steps and step.layer in plan.convolutions:
            weight, _, _ = read.layer(number, step.layer)
            assert np.abs(weight.astype(int)).max() <= 64


def test_the_dequantised_network_is_within_half_a_step_of_each_weight(case, quantised):
    plan, _, read = quantised
    rounded = plan_network(dequantised(case.network, plan, read), case.raw)
    for number, (step, other) in enumerate(zip(plan.steps, rounded.steps, strict=True)):
        if step.layer in plan.convolutions and "BatchNorm" not in str(
            case.network.get_submodule(step.layer.name)
        ):
            scale = read.layer(number, step.layer)[1][:, None, None, None]
            assert (np.abs(step.layer.weight - other.layer.weight) <= 0.51 * scale + 1e-6).all()


def test_a_file_with_other_weights_than_the_network_is_refused(quantised):
    plan, _, read = quantised
    without = Quantised({k: v for k, v in read.tensors.items() if k != "weight0_quantized"}, read.scales)
    with pytest.raises(BundleError, match="weight0_quantized is not what this network has"):
        int8_c_files(plan, without)
    spoilt = Quantised({**read.tensors, "weight0_scale": -read.tensors["weight0_scale"]}, read.scales)
    with pytest.raises(BundleError, match="weight0_scale is no scale"):
        int8_c_files(plan, spoilt)
