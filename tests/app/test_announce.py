"""The champion is announced before it is published, and published also where it cannot be announced."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiq_search import run_search

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
SMALL = ["search.trials=1", "training.epochs=1", "confirm.runs=0", "objective.constraints=[]"]


def test_the_champion_is_announced_before_it_is_published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    happened, announced = [], []

    def publish(study, listener, data):
        happened.append("published")
        return ["a part is missing"]

    def announce(result):
        happened.append("announced")
        announced.append(result)

    def search(announce):
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        return run_search(
            SPACE,
            overrides=SMALL,
            home=tmp_path / "home",
            tracking_uri=uri,
            runner="in_process",
            publish=publish,
            announce=announce,
        )

    result = search(announce)
    assert happened == ["announced", "published"]
    assert announced[0].champion == result.champion
    assert announced[0].reason == "finished"
    assert "a part is missing" not in announced[0].notes
    assert "a part is missing" in result.notes

    def gone(result):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        search(gone)
    assert happened == ["announced", "published", "published"]
