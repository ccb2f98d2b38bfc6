"""What every test needs."""

import os
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Ray reads this once, when it is imported; collecting the doctests imports it.
os.environ["RAY_AUTH_MODE"] = "token"

# MLflow's servers would start seven processes each for jobs that no test has.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

# How long a draw takes says how busy the machine is, not whether a test is right.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the two slow lanes start first, then the other slow files, then what fills the gaps."""
    items.sort(key=lambda item: (_lane(item.nodeid) not in SLOW_LANES, not _is_slow(_file(item.nodeid))))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let files that start Ray run one after the other, as do those that start servers; the others are free.

    Two that start Ray get in each other's way.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _lane(nodeid)

    return Lanes(config, log)


SLOW_LANES = {
    "with Ray": ("app/test_run", "cluster/", "deploy/", "faults/", "search/", "worker/"),
    "with servers": ("tracking/",),
}


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@cache
def _is_slow(file: str) -> bool:
    return file.startswith("tests/") and "mark.slow" in (Path(__file__).parents[1] / file).read_text(
        encoding="utf-8"
    )


def _lane(nodeid: str) -> str:
    file = _file(nodeid)
    if _is_slow(file):
        for lane, rooms in SLOW_LANES.items():
            if file.removeprefix("tests/").startswith(rooms):
                return lane
    return file


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write lone surrogates, which a test may log, as escapes: pytest-xdist sends reports as UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
