"""A study: created, found, changed by its own methods alone, moved and deleted."""

from __future__ import annotations

import json
import re

import pytest

from aiq_search.errors import StudyError
from aiq_search.study import Phase, Study, TrialKey, clear_unborn, list_studies
from tests.search.simulation import DATASET, finish, new_study, simulated_space


def test_an_id_names_the_space_and_the_time(tmp_path):
    study = Study.create(tmp_path, simulated_space(), DATASET)
    assert re.fullmatch(r"simulated-\d{8}-\d{6}-[0-9a-f]{4}", study.id)


def test_a_space_s_name_means_its_newest_study(tmp_path):
    first, second = new_study(tmp_path, "one"), new_study(tmp_path, "two")
    assert Study.open("one", tmp_path).id == first.id
    assert Study.open("simulated", tmp_path).id == second.id
    assert [study.id for study in list_studies(tmp_path)] == ["one", "two"]


def test_by_default_a_study_is_looked_for_where_the_command_line_looks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIQ_HOME", raising=False)
    here, there = new_study(tmp_path / ".aiq", "here"), new_study(tmp_path / "home", "there")
    assert Study.open("simulated").id == here.id
    monkeypatch.setenv("AIQ_HOME", str(tmp_path / "home"))
    assert Study.open("simulated").id == there.id
    with pytest.raises(StudyError, match="no study 'here'"):
        Study.open("here")


def test_an_unknown_study_offers_the_nearest(tmp_path):
    new_study(tmp_path, "digits-1")
    with pytest.raises(StudyError, match='did you mean "digits-1"'):
        Study.open("digits-2", tmp_path)
    with pytest.raises(StudyError, match='did you mean "simulated"'):
        Study.open("simulatd", tmp_path)
    with pytest.raises(StudyError, match="there is none yet"):
        Study.open("digits", tmp_path / "empty")


@pytest.mark.parametrize("study_id", ["../evil", "a/b", "", ".hidden", "x" * 200])
def test_an_id_cannot_leave_the_folder(tmp_path, study_id):
    with pytest.raises(StudyError):
        new_study(tmp_path, study_id)
    with pytest.raises(StudyError):
        Study.open(study_id, tmp_path)


def test_a_study_is_never_overwritten(tmp_path):
    finish(new_study(tmp_path, "one"))
    with pytest.raises(StudyError, match="exists already; continue it with `aiq resume one`"):
        new_study(tmp_path, "one")
    assert len(Study.open("one", tmp_path).records()) == 18


def test_a_larger_budget_is_written_when_the_study_is_reopened(tmp_path):
    study = new_study(tmp_path, "one", search={"trials": 4})
    finish(study)
    more = study.extended(8)
    assert (more.space.search.trials, study.refreshed().space.search.trials) == (8, 4)
    more.reopen("sqlite:///mlflow.db")
    assert more.refreshed().space.search.trials == 8
    assert more.finalists == []  # there will be more to choose from


def test_who_dies_while_reopening_resumes_the_old_budget(tmp_path, monkeypatch):
    study = new_study(tmp_path, "one", search={"trials": 4})
    finish(study)
    study.mark_ended("finished")
    more = study.extended(8)
    monkeypatch.setattr(more, "choose_finalists_anew", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        more.reopen("sqlite:///mlflow.db")
    left = study.refreshed()
    assert (left.space.search.trials, left.document.ended) == (4, None)
    finish(left)
    assert len(left.records(Phase.EXPLORE)) == 4


def test_the_same_budget_keeps_the_finalists(tmp_path):
    study = new_study(tmp_path, "one", search={"trials": 4})
    finish(study)
    chosen = study.finalists
    study.reopen("sqlite:///mlflow.db")
    assert study.finalists == chosen != []


def test_how_it_ended_is_written(tmp_path):
    study = new_study(tmp_path, "one")
    study.mark_ended("interrupted")
    assert study.refreshed().document.ended == "interrupted"
    assert not study.complete
    study.reopen("sqlite:///mlflow.db")
    assert study.refreshed().document.ended is None


def test_moved_checkpoints_leave_nothing_behind_and_a_larger_budget_unwritten(tmp_path):
    study = new_study(tmp_path, "one", search={"trials": 4})
    finish(study)
    key = TrialKey("one", Phase.EXPLORE, 0)
    study.weights_path(key).write_whole(b"weights")
    moved = study.extended(8).moved(str(tmp_path / "shared"))
    assert moved.weights_path(key).read_bytes() == b"weights"
    assert str(moved.weights_path(key)).startswith(str(tmp_path / "shared" / "one"))
    assert list(study.checkpoints.glob("*")) == []
    assert moved.refreshed().checkpoints == moved.checkpoints
    assert (moved.space.search.trials, moved.refreshed().space.search.trials) == (8, 4)
    moved.reopen("sqlite:///mlflow.db")
    assert moved.refreshed().space.search.trials == 8
    assert moved.finalists == []


def test_what_a_crash_left_half_written_is_removed(tmp_path):
    study = new_study(tmp_path, "one")
    finish(study)
    whole = sorted(study.directory.iterdir())
    for name in ("study.part", "checkpoints/a.part", "checkpoints/.probe-1"):
        (study.directory / name).touch()
    assert len(study.leftovers()) == 3
    with study.journal.open("ab") as journal:
        journal.write(b'{"op_code"')
    with study.held():
        [note] = study.repair()
    assert "cut 10 bytes of an unfinished line" in note
    assert study.leftovers() == []
    assert sorted(study.directory.iterdir()) == sorted([*whole, study.directory / "lock"])


def test_a_folder_without_study_json_is_cleared_for_its_id(tmp_path):
    study = new_study(tmp_path, "one")
    (study.directory / "study.json").unlink()
    assert list_studies(tmp_path) == []
    clear_unborn(tmp_path, "one")
    assert new_study(tmp_path, "one").refreshed().id == "one"


def test_its_provenance_is_this_process(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/aiq", "search", "--tracking-uri", "https://ada:love@host"])
    monkeypatch.setenv("AIQ_JOB", "5b")
    study = new_study(tmp_path, "one")
    provenance = study.refreshed().document.provenance
    assert provenance.command == ("aiq", "search", "--tracking-uri", "https://***@host")
    assert provenance.job == "5b"
    assert {"python", "torch", "optuna"} <= provenance.versions.keys()
    assert "love@" not in json.dumps(study.document.as_json())
