"""What a worker on Ray has in its hands."""

from __future__ import annotations

import os

import pytest

from aiq_search.cluster import connected
from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.worker import Assignment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """Ray on this machine, which says that it has a GPU in sight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "0")
        with connected(tmp_path_factory.mktemp("home")):
            import ray

            yield ray


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


def test_workers_read_the_data_where_ray_holds_them(ray, dataset):
    seen = ray.get(ray.remote(num_cpus=0)(look).remote(ray.put(dataset)))
    assert seen == {
        "numpy has a copy": False,
        "numpy may write": False,
        "torch has a copy": False,
        "digest": dataset.digest,
    }


def in_sight(assignment):
    """The GPUs that a worker sees before it is given its first assignment, and after."""
    from aiq_search.worker.trainable import TrainingTrainable

    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    worker = TrainingTrainable.__new__(TrainingTrainable)  # Tune calls setup, with the data
    worker.setup({"assignment": assignment}, dataset=None)
    return before, os.environ.get("CUDA_VISIBLE_DEVICES")


def test_a_worker_that_is_given_no_gpu_sees_none(ray):
    assignment = Assignment("s/explore/0", {}, {}, 0, 2.0, False, "", "").to_json()
    assert ray.get(ray.remote(num_cpus=0)(in_sight).remote(assignment)) == ("0", "")
