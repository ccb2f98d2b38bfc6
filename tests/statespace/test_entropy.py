import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiq_search.errors import InputError
from aiq_search.statespace import aiq, entropy, layer_efficiency, network_efficiency

ORDERS = [0, 0.5, 1, 2, 5, math.inf]
counts_of = st.lists(st.integers(1, 10**6), min_size=1, max_size=200)


def textbook(counts, order):
    p = np.asarray(counts, dtype=np.float64) / np.sum(counts)
    if order == 1:
        return -(p * np.log2(p)).sum()
    if math.isinf(order):
        return -math.log2(p.max())
    return math.log2((p**order).sum()) / (1 - order)


@pytest.mark.parametrize("order", ORDERS)
@given(counts=counts_of)
def test_every_order_is_the_textbook_formula(counts, order):
    assert entropy(counts, order) == pytest.approx(textbook(counts, order), abs=1e-12, rel=1e-12)


@given(counts=counts_of)
def test_entropy_falls_with_the_order(counts):
    values = [entropy(counts, order) for order in ORDERS]
    assert all(a >= b - 1e-9 for a, b in pairwise(values))


@given(counts=counts_of, zeros=st.integers(0, 5))
def test_neither_order_nor_unseen_states_matter(counts, zeros):
    assert entropy(counts[::-1] + [0] * zeros) == entropy(counts)


@pytest.mark.parametrize("order", ORDERS)
def test_equal_counts_have_the_logarithm_of_their_number_exactly(order):
    assert entropy([7] * 1024, order) == 10.0


@pytest.mark.parametrize("order", ORDERS)
def test_one_state_has_no_entropy_and_no_negative_zero(order):
    assert math.copysign(1, entropy([5], order)) == 1.0
    assert entropy([5], order) == 0


def test_a_high_order_does_not_underflow():
    assert entropy([1] * 3 + [2], 5000) == pytest.approx(-math.log2(0.4), rel=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float64])
def test_the_type_of_the_counts_does_not_matter(dtype):
    assert entropy(np.array([200, 50, 5], dtype=dtype)) == entropy([200, 50, 5])


@pytest.mark.parametrize(
    ("counts", "order"),
    [
        ([], 1),
        ([0, 0], 1),
        ([-1, 2], 1),
        ([math.nan], 1),
        ([[1, 2]], 1),
        (["a"], 1),
        ([1], -0.1),
        ([1], math.nan),
    ],
)
def test_what_is_no_distribution_is_refused(counts, order):
    with pytest.raises(InputError):
        entropy(counts, order)


def test_layer_efficiency_is_entropy_over_neurons():
    assert layer_efficiency([1, 1, 1, 1], 4) == 0.5
    with pytest.raises(InputError, match="at least one neuron"):
        layer_efficiency([1], 0)


@given(values=st.lists(st.floats(1e-6, 1), min_size=1, max_size=30))
def test_network_efficiency_is_the_geometric_mean(values):
    expected = math.prod(values) ** (1 / len(values)) if len(values) < 20 else None
    result = network_efficiency(values)
    assert min(values) - 1e-12 <= result <= max(values) + 1e-12
    if expected:
        assert result == pytest.approx(expected, rel=1e-9)


def test_one_collapsed_layer_makes_the_network_efficiency_zero():
    assert network_efficiency([0.5, 0.0, 0.9]) == 0.0


@pytest.mark.parametrize("values", [[], [1.1], [-0.1], [math.nan]])
def test_an_efficiency_outside_its_range_is_refused(values):
    with pytest.raises(InputError):
        network_efficiency(values)


def test_aiq_is_the_papers_formula_for_a_real_beta():
    assert aiq(0.9, 0.3, 2.5) == pytest.approx((0.9**2.5 * 0.3) ** (1 / 3.5), rel=1e-15)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((95, 0.5), "Divide a percentage by 100"),
        ((0.5, -0.1), "Efficiency"),
        ((math.nan, 0.5), "Accuracy"),
        ((0.5, 0.5, 0), "beta"),
        ((0.5, 0.5, -1), "beta"),
        ((0.5, 0.5, math.inf), "beta"),
    ],
)
def test_aiq_says_which_number_is_wrong(arguments, said):
    with pytest.raises(InputError, match=said):
        aiq(*arguments)
