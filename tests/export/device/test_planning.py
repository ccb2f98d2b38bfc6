"""A network becomes steps, or one sentence says why not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aiq_search.errors import InputError
from aiq_search.lowering.planning import plan_network
from tests.export.device.conftest import case_of


class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


@pytest.mark.parametrize(
    ("network", "shape", "sentence"),
    [
        (nn.Sequential(Skip(nn.Linear(4, 4))), (4,), "0 is a Skip, for which there is no device format"),
        (nn.Sequential(nn.Linear(3, 2), nn.Flatten()), (4, 3), "0 is applied along the last axis"),
        (
            nn.Sequential(nn.MaxPool2d(2, padding=1), nn.Flatten()),
            (1, 4, 4),
            "0 has no device format: only pools",
        ),
        (
            nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Flatten()),
            (1, 5, 5),
            "only pools without padding",
        ),
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            (1, 5, 5),
            r"\(5, 5\) is no multiple of \(2, 2\)",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), nn.Flatten()),
            (1, 5, 5),
            "only padding with zeros",
        ),
        (
            nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2, track_running_stats=False)),
            (4,),
            "running statistics",
        ),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), (4,), "begins with an activation"),
        (nn.Sequential(nn.Flatten(2), nn.Linear(4, 2), nn.Flatten()), (1, 2, 2), "flattens a part"),
    ],
)
def test_what_has_no_device_format_is_named(network, shape, sentence):
    raw = case_of(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), shape).raw
    with pytest.raises(InputError, match=sentence):
        plan_network(network.eval(), raw)


def test_outputs_never_overlap_their_inputs(case):
    for of_input in (False, True):
        plan = plan_network(case.network, case.raw)
        offsets, room = plan.places(of_input=of_input)
        steps = list(plan.steps[:-1])
        sizes = [torch.Size(step.output_shape).numel() for step in steps]
        fresh = [not step.in_place for step in steps]
        if of_input:
            sizes, fresh = [plan.inputs, *sizes], [True, *fresh]
        before = None
        for offset, size, new in zip(offsets, sizes, fresh, strict=True):
            assert 0 <= offset <= offset + size <= room
            if before is not None and new:
                assert offset + size <= before[0] or before[0] + before[1] <= offset
            before = (offset, size)


def test_a_pool_behind_a_convolution_takes_no_memory_of_its_own():
    layers = (
        nn.Conv2d(1, 2, 5),
        nn.ELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 4, 5),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    case = case_of(nn.Sequential(*layers), (1, 28, 28))
    assert plan_network(case.network, case.raw).places()[1] == 2 * 12 * 12 + 4 * 8 * 8
