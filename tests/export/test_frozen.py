"""A bundle that an earlier version wrote: every later version opens it. The files in frozen/ never change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiq_search.export import load_bundle, predict, verify_bundle

FROZEN = Path(__file__).parent / "frozen" / "bundle-1"


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(FROZEN)


def test_its_documents_are_read(bundle):
    assert bundle.architecture.name == "mlp"
    assert bundle.preprocessing.classes == tuple("0123456789")
    assert bundle.metrics.schema_version == 1
    assert bundle.metrics.splits["test"].accuracy == pytest.approx(0.69166666)


def test_its_network_answers_as_it_did(bundle):
    with np.load(FROZEN / "example_input.npz") as example:
        expected = example["probabilities"]
    answers = predict(bundle, [FROZEN / "example_input.npz"]).answers
    assert np.allclose([list(answer.probabilities.values()) for answer in answers], expected, atol=1e-6)


def test_it_verifies_in_every_format():
    checks = {check.name: check for check in verify_bundle(FROZEN, with_data=False).checks}
    assert checks["example"].passed
    assert checks["example"].detail.startswith("safetensors, pt2")
