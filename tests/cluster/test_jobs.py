"""The client of the Jobs API, without a cluster."""

from __future__ import annotations

import os

import pytest

from aiq_search.cluster.jobs import JobsClient

TEAM = "http://team.example:8265"


@pytest.mark.parametrize("name", ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_the_address_that_is_given_wins_over_the_environment(monkeypatch, name):
    """Ray's own client does it the other way round, and would stop a study of another cluster."""
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert JobsClient(TEAM)._client._address == TEAM
    assert os.environ[name] == "http://127.0.0.1:1"


def test_without_one_it_is_the_environments(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", TEAM)
    assert JobsClient()._client._address == TEAM
