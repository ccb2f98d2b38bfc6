"""A study that an earlier version wrote: every later version reads it. The files in frozen/ never change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aiq_search.study import Phase, Study, TrialState
from tests.search.simulation import finish

FROZEN = Path(__file__).parent / "frozen"


@pytest.fixture
def study(tmp_path):
    shutil.copytree(FROZEN / "studies", tmp_path / "studies")
    return Study.open("study-1", tmp_path)


def test_its_document_is_read(study):
    assert (study.document.schema_version, study.document.ended) == (1, "finished")
    assert study.document.provenance.command == ("aiq", "search", "simulated.yaml")
    assert study.space.search.trials == 6
    assert study.document.dataset.classes == tuple("0123456789")


def test_its_trials_and_champion_are_those_of_then(study):
    explored = [record.state for record in study.records(Phase.EXPLORE)]
    assert [explored.count(state) for state in TrialState] == [0, 2, 3, 1]
    assert len(study.records(Phase.CONFIRM)) == 6
    assert study.finalists == [5, 0]
    expected = json.loads((FROZEN / "champion-1.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(study.champion().document())) == expected


def test_it_is_complete_and_can_be_extended(study):
    assert study.complete
    more = study.extended(8)
    with more.held():
        more.reopen("sqlite:///mlflow.db")
        finish(more)
        more.mark_ended("finished")
    assert len(study.refreshed().records(Phase.EXPLORE)) == 8
    assert study.refreshed().complete
