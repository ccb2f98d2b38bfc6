"""Which secrets of a local cluster a command takes up, and which it lets go of."""

from __future__ import annotations

import os

import pytest

from aiq_search.app import local_cluster
from aiq_search.app.local_cluster import adopt_cluster, leave_cluster
from aiq_search.cluster.credentials import Credentials
from aiq_search.cluster.local import ClusterState, LocalCluster

OURS = ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN")
OURS += ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSFILE")


@pytest.fixture
def token(tmp_path, monkeypatch):
    """The token's path of a whole cluster in AIQ_HOME, which the environment says nothing of."""
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k not in OURS})
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "state.json").touch()
    Credentials.make(tmp_path / "cluster")
    ports = {"postgres": 1, "mlflow": 2, "ray": 3, "dashboard": 8265}
    monkeypatch.setattr(ClusterState, "dead", [])
    monkeypatch.setattr(LocalCluster, "state", ClusterState(0, ports, tmp_path, tmp_path))
    return str(local_cluster.local_cluster().folder / "ray.token")


def test_where_the_environment_names_nothing_everything_is_taken_up(token):
    assert adopt_cluster() is None
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:8265"
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == token
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:2"


@pytest.mark.parametrize("name", ["RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"])
def test_a_users_own_ray_is_not_mixed_with_it(token, name):
    os.environ[name] = "theirs"
    adopt_cluster()
    assert {known: os.environ[known] for known in OURS[:3] if known in os.environ} == {name: "theirs"}
    assert "MLFLOW_TRACKING_PASSWORD" in os.environ


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"])
def test_nor_is_a_users_own_mlflow(token, name):
    os.environ[name] = "theirs"
    adopt_cluster()
    assert {known: os.environ[known] for known in OURS[3:6] if known in os.environ} == {name: "theirs"}


@pytest.mark.parametrize("address", ["http://team.example:8265", "https://127.0.0.1:8265", "http://[", "x"])
def test_its_token_does_not_go_to_another_address(token, address):
    adopt_cluster()
    leave_cluster(address)
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:8265/", "http://localhost:8265"])
def test_its_own_address_keeps_it(token, address):
    adopt_cluster()
    leave_cluster(address)
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == token


def test_a_users_own_token_goes_where_the_user_says(token, tmp_path):
    os.environ["RAY_AUTH_TOKEN_PATH"] = theirs = str(tmp_path / "theirs")
    adopt_cluster()
    leave_cluster("http://team.example:8265")
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == theirs
