"""Eight bits: near the float32 network, and the C file equal to onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aiq_search.errors import InputError
from aiq_search.export.device.c_int8 import int8_c_files
from aiq_search.export.device.compiler import run_c
from aiq_search.export.onnx_file import load_onnx
from aiq_search.lowering.planning import plan_network
from aiq_search.lowering.quantization import NAME, Quantised, dequantised, quantised_onnx
from tests.export.device.conftest import SANITIZED, Case


@pytest.fixture(scope="session")
def quantised(case: Case):
    plan = plan_network(case.network, case.raw)
    content = quantised_onnx(plan, case.samples)
    return plan, content, Quantised.of(content, plan)


def test_its_logits_are_near_those_of_float32(case, quantised):
    logits, exact = load_onnx(quantised[1], NAME)(case.samples)["logits"], case.logits()
    assert np.abs(logits - exact).max() < 0.12 * (exact.max() - exact.min())


def test_the_c_file_gives_the_logits_of_onnxruntime_or_is_one_step_away(case, quantised):
    plan, content, read = quantised
    files = int8_c_files(plan, read)
    logits = run_c("model_int8", files, case.samples, plan.classes, flags=SANITIZED)["logits"]
    steps = np.rint(
        np.abs(logits - load_onnx(content, NAME)(case.samples)["logits"]) / read.ranges[plan.parts][0]
    )
    averages = any("AveragePool" in str(each) for each in (content,))
    assert steps.max() <= (1 if averages else 0)


def test_weights_have_seven_bits_so_that_no_processor_saturates(quantised):
    plan, _, read = quantised
    for number, step in enumerate(plan.steps):
        if step in plan.steps and step.layer in plan.convolutions:
            assert np.abs(read.layers[number].weight.astype(int)).max() <= 64


def test_the_dequantised_network_is_within_half_a_step_of_each_weight(case, quantised):
    plan, _, read = quantised
    rounded = plan_network(dequantised(case.network, plan, read), case.raw)
    for number, (step, other) in enumerate(zip(plan.steps, rounded.steps, strict=True)):
        if step.layer in plan.convolutions and "BatchNorm" not in str(
            case.network.get_submodule(step.layer.name)
        ):
            scale = read.layers[number].scale[:, None, None, None]
            assert (np.abs(step.layer.weight - other.layer.weight) <= 0.51 * scale + 1e-6).all()


def _without(model):
    (weight,) = (t for t in model.graph.initializer if t.name == "weight0_quantized")
    model.graph.initializer.remove(weight)


def _spoilt(model):
    (scale,) = (t for t in model.graph.initializer if t.name == "weight0_scale")
    scale.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(scale), scale.name))


@pytest.mark.parametrize(
    ("damage", "said"),
    [(_without, "weight0_quantized is not what this network has"), (_spoilt, "weight0_scale is no scale")],
)
def test_a_file_with_other_weights_than_the_network_is_refused(quantised, damage, said):
    plan, content, _ = quantised
    model = onnx.load_model_from_string(content)
    damage(model)
    with pytest.raises(InputError, match=said):
        Quantised.of(model.SerializeToString(), plan)
