"""Which cluster the client of the Jobs API asks; none of them is there."""

from __future__ import annotations

import os

import pytest
import ray.job_submission
from ray.dashboard.utils import get_address_for_submission_client

from aiq_search.cluster.jobs import JobsClient

TEAM = "http://team.example:8265"


@pytest.fixture
def asked(monkeypatch):
    """The addresses that Ray's client settles on, whatever it is given."""
    addresses = []
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(
        ray.job_submission,
        "JobSubmissionClient",
        lambda given: addresses.append(get_address_for_submission_client(given)),
    )
    return addresses


@pytest.mark.parametrize("name", ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_the_address_that_is_given_wins_over_the_environment(asked, monkeypatch, name):
    """Ray's own client does it the other way round, and would stop a study of another cluster."""
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get_address_for_submission_client(TEAM) == "http://127.0.0.1:1"
    _ = JobsClient(TEAM)._client
    assert asked == [TEAM]
    assert os.environ.get("RAY_API_SERVER_ADDRESS") == (
        None if name == "RAY_ADDRESS" else "http://127.0.0.1:1"
    )


def test_without_one_it_is_the_environments(asked, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", TEAM)
    _ = JobsClient()._client
    assert asked == [TEAM]
