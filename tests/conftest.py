"""What every test needs."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Ray reads this once, when it is imported; collecting the doctests imports it.
os.environ["RAY_AUTH_MODE"] = "token"

# MLflow's servers would start seven processes each for jobs that no test has.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

# How long a draw takes says how busy the machine is, not whether a test is right.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give pytest-xdist two lanes: slow tests one after the other, fast ones file by file beside them.

    Slow tests start Ray, servers and databases; most of their time they wait for those.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        lane = "slow" if item.get_closest_marker("slow") else item.location[0]
        item.add_marker(pytest.mark.xdist_group(lane))
