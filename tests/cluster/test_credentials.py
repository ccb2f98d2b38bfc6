"""The secrets of a local cluster."""

from __future__ import annotations

import stat

import pytest

from aiq_search.cluster.credentials import Credentials
from aiq_search.errors import AiqError


def test_each_is_random_and_readable_by_its_owner_alone(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    ours, theirs = Credentials.make(tmp_path / "a"), Credentials.make(tmp_path / "b")
    secrets = {*vars(ours).values(), *vars(theirs).values()}
    assert len(secrets) == 14
    assert min(map(len, secrets)) >= 32
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()}
    assert modes == {0o600}


def test_they_stay_the_same_over_restarts(tmp_path):
    made = Credentials.make(tmp_path)
    assert Credentials.make(tmp_path) == made == Credentials.read(tmp_path)
    assert made.mlflow_admin not in repr(made)


def test_a_damaged_file_is_a_sentence(tmp_path):
    (tmp_path / "credentials.json").write_text('{"ray_token": 1}')
    with pytest.raises(AiqError, match="damaged"):
        Credentials.make(tmp_path)
