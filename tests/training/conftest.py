import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """As a trial has it; on a busy machine two threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
