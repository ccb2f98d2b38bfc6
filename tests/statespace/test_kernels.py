import numpy as np
import pytest
import torch

from aiq_search.statespace.kernels import load_kernels
from aiq_search.statespace.packing import pack_states


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(30, 5, 1), (3, 20, 3000), (4, 64, 6), (2, 130, 70), (7, 300, 1)])
def test_the_compiled_kernel_packs_as_torch_does(shape, dtype):
    planes = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    planes.flatten()[::17] = float("nan")
    assert torch.equal(load_kernels().pack(planes), pack_states(planes))


def test_memory_that_is_used_again_holds_the_new_states_only():
    kernels, scratch = load_kernels(), []
    for outer in (50, 20, 80):
        planes = torch.randn(outer, 9, 1)
        assert torch.equal(kernels.pack(planes, scratch), pack_states(planes))


def test_without_a_place_for_its_cache_the_kernel_still_works(monkeypatch):
    caching = pytest.importorskip("numba.core.caching")
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    kernels = load_kernels.__wrapped__()
    histogram = np.zeros(4, dtype=np.int64)
    kernels.increment(histogram, np.array([[1], [1], [3]]))
    assert histogram.tolist() == [0, 2, 0, 1]


def test_the_kernel_leaves_to_torch_what_it_cannot_pack():
    assert not load_kernels().packs(torch.ones(2, 2, 2, dtype=torch.int32))
    assert not load_kernels().packs(torch.ones(2, 2, 2, device="meta"))
