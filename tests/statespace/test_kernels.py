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


@pytest.mark.parametrize("shape", [(3000, 5, 1), (3, 20, 3000), (40, 11, 6)])
def test_the_compiled_histogram_is_the_one_of_the_packed_states(shape):
    planes = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    histogram = np.zeros(1 << shape[1], dtype=np.int64)
    load_kernels().count(planes, histogram)
    assert np.array_equal(histogram, np.bincount(pack_states(planes).reshape(-1), minlength=len(histogram)))


def test_without_a_place_for_its_cache_the_kernel_still_works(monkeypatch):
    caching = pytest.importorskip("numba.core.caching")
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    kernels = load_kernels.__wrapped__()
    planes = torch.randn(9, 70, 1)
    assert torch.equal(kernels.pack(planes), pack_states(planes))


def test_the_kernel_leaves_to_torch_what_it_cannot_pack():
    assert not load_kernels().packs(torch.ones(2, 2, 2, dtype=torch.int32))
    assert not load_kernels().packs(torch.ones(2, 2, 2, device="meta"))
