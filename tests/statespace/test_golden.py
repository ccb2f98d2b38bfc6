"""Parity with the golden values of the authors' own tool (race-free configuration)."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aiq_search.statespace import StateCounter, entropy, layer_efficiency

from . import golden_inputs

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())["cases"]


def count(name, batch_size, shuffled=False):
    activations = torch.from_numpy(golden_inputs.case(name).copy())
    if shuffled:
        activations = activations[
            torch.randperm(len(activations), generator=torch.Generator().manual_seed(7))
        ]
    counter = StateCounter(activations.shape[1])
    for batch in activations.split(batch_size):
        counter.update(batch, axis=1)
    return counter.compute()


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_inputs_are_the_ones_that_the_golden_values_were_made_from(name):
    assert golden_inputs.sha256(name) == GOLDEN[name]["sha256"]


@pytest.mark.parametrize(("batch_size", "shuffled"), [(200, False), (37, False), (200, True)])
@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_counts_and_entropies_are_those_of_the_golden_file(name, batch_size, shuffled):
    golden = GOLDEN[name]
    result = count(name, batch_size, shuffled)
    assert result.neurons == golden["neurons"]
    assert result.observations == golden["state_count"]
    assert result.distinct == golden["unique_states"]
    ascending = np.sort(result.counts)
    assert hashlib.sha256(ascending.astype("<i8").tobytes()).hexdigest() == golden["counts_sorted_sha256"]
    if "counts_sorted_desc" in golden:
        assert ascending[::-1].tolist() == golden["counts_sorted_desc"]
    for order, bits in golden["entropy_bits"].items():
        assert entropy(result.counts, float(order)) == pytest.approx(bits, abs=1e-12)
        efficiency = layer_efficiency(result.counts, result.neurons, float(order))
        assert efficiency == pytest.approx(golden["efficiency"][order], abs=1e-12)
