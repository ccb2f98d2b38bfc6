"""A Ray cluster for the tests of this folder that need one."""

import pytest


@pytest.fixture(scope="package")
def ray(tmp_path_factory):
    """Ray on this machine, with two CPUs, which says that it has a GPU in sight."""
    from aiq_search.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "0")
        with connected(tmp_path_factory.mktemp("ray")):
            import ray

            yield ray
