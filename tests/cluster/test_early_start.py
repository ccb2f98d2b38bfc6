"""Ray starts while a study is prepared, and leaves nothing where that finds a mistake."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from aiq_search import run_search
from aiq_search.cluster import Connection
from aiq_search.errors import InputError

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"


def test_a_mistake_before_ray_begins_is_the_only_error(tmp_path):
    home = tmp_path / "home"
    with pytest.raises(InputError, match="a mistake"), Connection(home):
        raise InputError("a mistake")
    assert not home.exists()


@pytest.mark.slow
def test_a_mistake_found_while_ray_starts_leaves_nothing(tmp_path, monkeypatch):
    import ray

    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    with TemporaryDirectory(dir="/tmp") as scratch:  # short enough for sockets
        monkeypatch.setenv("RAY_TMPDIR", scratch)
        with pytest.raises(InputError, match="hidden3"):
            run_search(SPACE, overrides=["model.hidden9=3"], home=tmp_path / "home")
        assert not ray.is_initialized()
        assert list(Path(scratch).iterdir()) == []
    assert list(tmp_path.iterdir()) == []
