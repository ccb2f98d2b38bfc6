import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiq_search.errors import InputError
from aiq_search.statespace import StateCounter, entropy, runs
from aiq_search.statespace.counter import StateCounter as Counter
from aiq_search.statespace.packing import _pack_on_device, as_planes, pack_states

from .naive import naive_counts, naive_entropy, table

BACKENDS = ["torch", "compiled"]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.uint8]


def activations(neurons, outer, inner, dtype=torch.float32, seed=0, distinct=40):
    """Rows drawn from a few prototypes, so that states repeat at any width."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(distinct, neurons, generator=generator)
    rows = prototypes[torch.randint(0, distinct, (outer, inner), generator=generator)]
    values = rows.transpose(1, 2) * 4
    if dtype.is_floating_point:
        values[torch.rand(values.shape, generator=generator) < 0.001] = float("nan")
    elif dtype == torch.uint8:
        values = values.clamp(min=0)
    return values.to(dtype).squeeze(2) if inner == 1 else values.to(dtype)


def numpy_unique(values):
    """States and counts by numpy.unique, as the dictionary that `table` makes."""
    rows = np.moveaxis((values > 0).numpy(), 1, -1).reshape(-1, values.shape[1])
    words = -(-values.shape[1] // 64)
    padded = np.zeros((len(rows), 64 * words), dtype=bool)
    padded[:, : values.shape[1]] = rows
    packed = np.packbits(padded, axis=1, bitorder="little")
    states, counts = np.unique(packed, axis=0, return_counts=True)
    return dict(zip(map(bytes, states), counts.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    neurons=st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 300, 1000, 2100])),
    outer=st.integers(1, 40),
    inner=st.sampled_from([1, 2, 7, 63, 64, 100]),
    dtype=st.sampled_from(DTYPES),
    batch=st.integers(1, 40),
    backend=st.sampled_from(BACKENDS),
    seed=st.integers(0, 1000),
)
def test_counts_are_those_of_numpy_unique(neurons, outer, inner, dtype, batch, backend, seed):
    values = activations(neurons, outer, inner, dtype, seed)
    expected = numpy_unique(values)
    whole, halves = StateCounter(neurons, backend=backend), [StateCounter(neurons) for _ in range(2)]
    shuffled = values[torch.randperm(outer, generator=torch.Generator().manual_seed(seed))]
    for number, part in enumerate(shuffled.split(batch)):
        whole.update(part, axis=1)
        halves[number % 2].update(part, axis=1)
    halves[0].merge(halves[1])
    assert table(whole.compute()) == table(halves[0].compute()) == expected
    assert whole.compute().entropy == pytest.approx(naive_entropy(list(expected.values())), abs=1e-12)


@pytest.mark.parametrize("neurons", [8, 50, 300])
@pytest.mark.parametrize("backend", BACKENDS)
def test_twenty_runs_in_a_row_give_the_same_counts(neurons, backend):
    values = activations(neurons, 500, 9, distinct=2000)
    first = None
    for _ in range(20):
        counter = StateCounter(neurons, backend=backend)
        for part in values.split(50):
            counter.update(part, axis=1)
        first = first or table(counter.compute())
        assert table(counter.compute()) == first


@pytest.mark.parametrize("mask", [0, 1, 7])
def test_states_of_equal_hash_are_told_apart(monkeypatch, mask):
    hashes = runs.hash_rows
    monkeypatch.setattr(runs, "hash_rows", lambda states: hashes(states) & mask)
    values = activations(130, 3000, 1, distinct=700)
    counter, other = StateCounter(130), StateCounter(130)
    for number, part in enumerate(values.split(100)):
        (counter if number % 3 else other).update(part)
        other._store._flush()
        counter._store._flush()  # many short runs, merged within one hash
    counter.merge(other)
    assert table(counter.compute()) == numpy_unique(values)


def test_blocks_are_cut_and_merged_without_losing_a_state(monkeypatch):
    monkeypatch.setattr(runs, "_BLOCK", 16)
    for neurons in (40, 100):
        values = activations(neurons, 4000, 1, distinct=1500)
        counter = StateCounter(neurons)
        for part in values.split(130):
            counter.update(part)
            counter._store._flush()
        assert len(counter._store.as_run().blocks) > 20
        assert table(counter.compute()) == numpy_unique(values)


@pytest.mark.parametrize("neurons", [1, 20, 64, 65, 200])
@pytest.mark.parametrize("inner", [1, 5, 80])
def test_packing_for_a_device_gives_the_states_of_the_cpu(neurons, inner):
    planes = as_planes(activations(neurons, 30, inner).reshape(30, neurons, inner), 1)
    assert torch.equal(_pack_on_device(planes), pack_states(planes))


@pytest.mark.parametrize("neurons", [8, 70])
def test_memory_layout_does_not_matter(neurons):
    values = torch.randn(6, neurons, 9, 11)
    views = [
        values,
        values.to(memory_format=torch.channels_last),
        torch.randn(6, neurons, 9, 22)[..., ::2].copy_(values),
        values.transpose(2, 3),
        values.clone().requires_grad_(),
    ]
    counts = []
    for view in views:
        counter = StateCounter(neurons)
        counter.update(view, axis=1)
        counts.append(table(counter.compute()))
    assert all(found == counts[0] for found in counts)
    assert sorted(counts[0].values()) == naive_counts(values, 1)


def test_infinite_and_denormal_numbers_are_on_and_nan_is_off():
    row = [[float("inf"), 1e-45, float("nan"), -0.0, 0.0, -1e-45, float("-inf"), 1.0]]
    for backend in BACKENDS:
        for dtype in (torch.float32, torch.float64):
            counter = StateCounter(8, backend=backend)
            counter.update(torch.tensor(row, dtype=dtype))
            assert counter.compute().states.tolist() == [[0b10000011]]


def test_updating_after_a_result_leaves_the_result_as_it_was():
    counter = StateCounter(40)
    counter.update(torch.randn(300, 40))
    result = counter.compute()
    before = table(result)
    counter.update(torch.randn(300, 40))
    counter.merge(counter)
    assert table(result) == before
    assert counter.compute().observations == 1200


def test_reset_forgets_and_an_empty_batch_counts_nothing():
    for neurons in (4, 40):
        counter = StateCounter(neurons)
        counter.update(torch.ones(5, neurons))
        counter.reset()
        counter.update(torch.ones(0, neurons))
        with pytest.raises(InputError, match="No observation"):
            counter.compute()


@pytest.mark.parametrize("neurons", [5, 50, 150])
def test_a_saved_counter_comes_back_and_can_be_merged(tmp_path, neurons):
    counter = StateCounter(neurons)
    counter.update(activations(neurons, 500, 1))
    counter.save(tmp_path / "counts.npz")
    loaded = StateCounter.load(tmp_path / "counts.npz")
    assert table(loaded.compute()) == table(counter.compute())
    loaded.merge(counter)
    assert loaded.compute().observations == 1000


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "counts.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"counts\.npz: not readable"):
        StateCounter.load(path)
    counter = StateCounter(5)
    counter.update(torch.ones(3, 5))
    arrays = counter.to_arrays()
    for name, wrong in [
        ("counts", -arrays["counts"]),
        ("counts", np.array(1)),
        ("states", arrays["states"] + np.uint64(1 << 5)),
        ("states", arrays["states"][0]),
        ("neurons", np.array("5")),
        ("neurons", np.array([5, 5])),
        ("halvings", np.array(-1)),
    ]:
        with pytest.raises(InputError, match="damaged"):
            StateCounter.from_arrays({**arrays, name: wrong})
    with pytest.raises(InputError, match="missing"):
        StateCounter.from_arrays({"format": np.array(1)})


def _count_part(seed):
    counter = Counter(50)
    counter.update(activations(50, 400, 3, seed=seed), axis=1)
    return counter.to_arrays()


def test_counters_of_several_processes_merge_to_the_result_of_one():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.map(_count_part, range(3))
    merged, single = StateCounter(50), StateCounter(50)
    for seed, arrays in enumerate(parts):
        merged.merge(StateCounter.from_arrays(arrays))
        single.update(activations(50, 400, 3, seed=seed), axis=1)
    assert table(merged.compute()) == table(single.compute())


def test_over_the_budget_the_error_says_what_it_takes():
    counter = StateCounter(60, budget=1 << 18)
    values = torch.randn(100_000, 60, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"distinct states .* bytes, more than the budget of 262,144"):
        counter.update(values)


def test_a_histogram_over_the_budget_becomes_runs():
    values = activations(20, 300, 4)
    small, free = StateCounter(20, budget=1 << 20), StateCounter(20)
    for counter in (small, free):
        counter.update(values, axis=1)
    assert table(small.compute()) == table(free.compute())
    assert small.nbytes < 1 << 20


def test_a_sample_keeps_to_the_budget_is_seeded_and_is_marked():
    values = torch.randn(60_000, 40, generator=torch.Generator().manual_seed(0))

    def sampled(seed):
        counter = StateCounter(40, budget=1 << 18, over_budget="sample", seed=seed)
        for part in values.split(3000):
            counter.update(part)
            assert counter.nbytes <= 1 << 18
        return counter.compute()

    first, again, other = sampled(1), sampled(1), sampled(2)
    assert 0 < first.sampled < 1
    assert first.observations == pytest.approx(60_000 * first.sampled, rel=0.1)
    assert table(first) == table(again) != table(other)


def test_a_sample_estimates_the_entropy_of_all():
    values = activations(30, 200_000, 1, distinct=500)
    counter, exact = StateCounter(30), StateCounter(30)
    exact.update(values)
    counter._halvings = 3
    counter.update(values)
    assert counter.compute().entropy == pytest.approx(exact.compute().entropy, abs=0.1)
    assert exact.compute().sampled == 1


def test_merging_a_sample_makes_a_sample_of_both():
    for neurons in (10, 40):
        full, sample = StateCounter(neurons), StateCounter(neurons)
        sample._sample.halvings = 2
        for counter in (full, sample):
            counter.update(torch.randn(40_000, neurons))
        full.merge(sample)
        assert full.compute().sampled == 0.25
        assert full.compute().observations == pytest.approx(20_000, rel=0.1)


@pytest.mark.parametrize(
    ("batch", "axis", "said"),
    [
        (torch.ones(2, 5), -1, "Expected 4 neurons"),
        (torch.ones(4), 1, "axis 1"),
        (torch.ones(2, 4, dtype=torch.complex64), -1, "real numbers"),
        (torch.ones(2, 4, device="meta"), -1, "meta"),
        (torch.ones(2, 4).to_sparse(), -1, "dense"),
    ],
)
def test_a_batch_that_cannot_be_counted_is_refused(batch, axis, said):
    with pytest.raises(InputError, match=said):
        StateCounter(4).update(batch, axis)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((0,), {}),
        ((4,), {"order": -1}),
        ((4,), {"backend": "fast"}),
        ((4,), {"budget": 10}),
        ((4,), {"over_budget": 1}),
    ],
)
def test_a_wrong_option_is_refused(arguments, options):
    with pytest.raises(InputError):
        StateCounter(*arguments, **options)


def test_counters_of_different_layers_do_not_merge():
    with pytest.raises(InputError, match="one layer"):
        StateCounter(3).merge(StateCounter(4))


def test_neurons_that_tell_nothing_are_found():
    values = torch.randn(500, 70)
    values[:, 3], values[:, 68] = -1, 1
    values[:, 69], values[:, 5] = values[:, 1], -values[:, 1]
    counter = StateCounter(70)
    counter.update(values)
    counts = counter.compute()
    assert counts.always_off == (3,)
    assert counts.always_on == (68,)
    assert [(group.neurons, group.opposed) for group in counts.groups] == [((1, 5, 69), (5,))]
    assert counts.on_counts.tolist() == (values > 0).sum(0).tolist()
    assert counts.seen_once == 1.0
    assert counts.ceiling == pytest.approx(np.log2(500) / 70)


def test_the_order_of_the_entropy_is_an_option():
    counter = StateCounter(6, order=2)
    counter.update(torch.randn(100, 6))
    result = counter.compute()
    assert result.entropy == entropy(result.counts, 2)
