"""The data travel once to a node, and its trials share that one copy."""

from __future__ import annotations

import pytest

from aiq_search.cluster import connected
from aiq_search.datasets import DatasetOptions, load_dataset


def look(dataset):
    """What a worker has in its hands: whether numpy or torch copied it, and its checksum."""
    import torch

    from aiq_search.training.evaluation import TensorSplit

    inputs = dataset.train.inputs
    tensors = TensorSplit.of(dataset.train, dataset.normalization, torch.device("cpu"))
    return {
        "numpy has a copy": inputs.flags.owndata,
        "numpy may write": inputs.flags.writeable,
        "torch has a copy": tensors.inputs.data_ptr() != inputs.ctypes.data,
        "digest": dataset.digest_now(),
    }


@pytest.mark.slow
def test_workers_read_the_data_where_ray_holds_them(tmp_path):
    dataset = load_dataset(DatasetOptions(name="digits", validation=360, test=360))
    with connected(tmp_path):
        import ray

        data = ray.put(dataset)
        seen = ray.get(ray.remote(num_cpus=0)(look).remote(data))
    assert seen == {
        "numpy has a copy": False,
        "numpy may write": False,
        "torch has a copy": False,
        "digest": dataset.digest,
    }
