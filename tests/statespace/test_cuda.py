"""States counted on a GPU are the states counted on the CPU."""

import numpy as np
import pytest
import torch
from torch import nn

from aiq_search.statespace import StateCapture, StateCounter

from . import golden_inputs
from .test_golden import GOLDEN

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

GPU = torch.device("cuda")


def counted(activations, axis=1, batch_size=37):
    counter = StateCounter(activations.shape[axis])
    for batch in activations.split(batch_size):
        counter.update(batch, axis=axis)
    return counter.compute()


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_golden_counts_are_the_same_on_the_gpu(name):
    activations = torch.from_numpy(golden_inputs.case(name).copy()).to(GPU)
    result = counted(activations, batch_size=200)
    golden = GOLDEN[name]
    assert (result.observations, result.distinct) == (golden["state_count"], golden["unique_states"])
    if "counts_sorted_desc" in golden:
        assert np.sort(result.counts)[::-1].tolist() == golden["counts_sorted_desc"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8])
@pytest.mark.parametrize("neurons", [1, 3, 20, 21, 64, 65, 130])
def test_every_width_and_type_counts_as_on_the_cpu(dtype, neurons):
    draw = torch.Generator().manual_seed(neurons)
    values = torch.randn(200, neurons, 3, 3, generator=draw).mul(3).to(dtype)
    here, there = counted(values), counted(values.to(GPU))
    assert np.array_equal(here.counts, there.counts)
    assert here.entropy == there.entropy


def test_zeros_and_nan_are_off_on_the_gpu():
    off = torch.tensor([[0.0, -0.0, float("nan"), -1.0]], device=GPU)
    result = counted(off)
    assert (result.observations, result.distinct) == (1, 1)
    both = counted(torch.cat([off, torch.full((1, 4), -1.0, device=GPU)]))
    assert both.distinct == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_network_is_measured_on_the_gpu_as_on_the_cpu(layout):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ELU(), nn.Flatten(), nn.Linear(4 * 36, 70), nn.ELU(), nn.Linear(70, 2)
    )
    images = torch.randn(50, 1, 8, 8)
    with torch.no_grad(), StateCapture(model) as capture:
        model(images)
        here = capture.compute()
    model.to(GPU, memory_format=layout)
    with torch.no_grad(), StateCapture(model) as capture:
        model(images.to(GPU, memory_format=layout))
        there = capture.compute()
    assert there.keys() == here.keys()
    for name, layer in there.items():
        assert layer.observations == here[name].observations
        # Rounding differs in the last bit, and a value may fall on the other side of 0.
        assert layer.efficiency == pytest.approx(here[name].efficiency, abs=1e-3)


def test_batches_of_both_devices_add_up():
    values = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
    counter = StateCounter(12)
    counter.update(values[:100].to(GPU))
    counter.update(values[100:])
    assert np.array_equal(counter.compute().counts, counted(values).counts)
