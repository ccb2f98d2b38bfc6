"""``model.c`` gives what torch gives, compiled with every warning and both sanitizers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aiq_search.errors import InputError
from aiq_search.export.device.c_float import c_files
from aiq_search.export.device.compiler import CompilerError, footprint, run_c
from aiq_search.lowering.planning import plan_network
from tests.export.device.conftest import SANITIZED, case_of


def test_it_gives_the_logits_of_torch(case):
    files = c_files(plan_network(case.network, case.raw))
    outputs = run_c("model", files, case.samples, len(case.raw.classes), flags=SANITIZED)
    expected = case.logits()
    largest = np.maximum(1, np.abs(expected).max(1, keepdims=True))
    assert (np.abs(outputs["logits"] - expected) / largest).max() < 1e-5
    softmax = torch.from_numpy(expected).softmax(1).numpy()
    assert np.abs(outputs["probabilities"] - softmax).max() < 1e-5


def test_the_same_network_gives_the_same_bytes(case):
    plan = plan_network(case.network, case.raw)
    assert c_files(plan) == c_files(plan_network(case.network, case.raw))


def test_it_allocates_nothing_and_includes_math_h_alone(case):
    text = c_files(plan_network(case.network, case.raw))["model.c"].decode()
    assert re.findall(r"#include .*", text) == ['#include "model.h"', "#include <math.h>"]
    assert not re.search(r"\b(malloc|calloc|free|printf)\b", text)


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(1, 4),
    width=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    depthwise=st.booleans(),
    pool=st.integers(1, 3),
    pool_stride=st.integers(1, 3),
    average=st.booleans(),
    size=st.tuples(st.integers(7, 11), st.integers(7, 11)),
    dtype=st.sampled_from(["uint8", "float32"]),
)
def test_any_convolution_and_pool_is_that_of_torch(
    channels, width, kernel, stride, padding, dilation, depthwise, pool, pool_stride, average, size, dtype
):
    groups = channels if depthwise else 1
    layers = [
        nn.Conv2d(channels, channels * width, kernel, stride, padding, dilation, groups=groups),
        nn.Tanh(),
    ]
    places = nn.Sequential(*layers)(torch.zeros(1, channels, *size)).shape[2:]
    if min(places) >= pool:
        layers.append((nn.AvgPool2d if average else nn.MaxPool2d)(pool, pool_stride))
    layers.append(nn.Flatten())
    features = nn.Sequential(*layers)(torch.zeros(1, channels, *size)).shape[1]
    case = case_of(nn.Sequential(*layers, nn.Linear(features, 2)), (channels, *size), dtype=dtype)
    few = replace(case, samples=case.samples[:20])
    files = c_files(plan_network(few.network, few.raw))
    logits = run_c("model", files, few.samples, 2, flags=SANITIZED)["logits"]
    assert np.abs(logits - few.logits()).max() < 1e-5 * max(1, np.abs(logits).max())


def test_a_network_larger_than_any_flash_is_refused():
    case = case_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 5000), nn.Linear(5000, 2)), (1, 8, 8))
    with pytest.raises(InputError, match=r"has 335,002 weights, but a C file has at most 262,144"):
        c_files(plan_network(case.network, case.raw))


def test_weights_that_are_no_numbers_are_refused():
    case = case_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
    case.network[1].weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match="1 has weights that are NaN"):
        c_files(plan_network(case.network, case.raw))


def test_without_a_compiler_it_is_one_sentence(case, monkeypatch):
    monkeypatch.setenv("CC", "a-compiler-that-nobody-has")
    files = c_files(plan_network(case.network, case.raw))
    with pytest.raises(CompilerError, match=r"there is no C compiler here .*apt-get install gcc"):
        run_c("model", files, case.samples, len(case.raw.classes))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompilerError, match="apt-get install gcc-arm-none-eabi"):
        footprint("model", files, case.samples.dtype)


def test_what_a_compiler_complains_of_is_one_sentence(case):
    files = {**c_files(plan_network(case.network, case.raw)), "model.h": b"int broken"}
    with pytest.raises(CompilerError, match=r"failed: .*error"):
        run_c("model", files, case.samples, len(case.raw.classes))
