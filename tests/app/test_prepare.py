"""A study in a database is gone on with from another machine, whose AIQ_HOME knows nothing of it."""

from __future__ import annotations

import json

import pytest

from aiq_search.app.options import RunOptions
from aiq_search.app.prepare import find_or_fetch
from aiq_search.errors import StudyError
from aiq_search.search.driver import StudyDriver
from aiq_search.study import Study, TrialState
from tests.search.simulation import DATASET, finish, new_study, run, simulated_space


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/trials.db"


def stored(home, url, **options):
    return Study.create(home, simulated_space(), DATASET, "shared", trials_url=url, **options)


def test_another_head_goes_on_where_the_first_one_was_lost(tmp_path, url):
    driver = StudyDriver(stored(tmp_path / "lost", url, checkpoint_place=str(tmp_path / "files")))
    driver.begin()
    run(driver, stop_after=14)

    study = find_or_fetch("shared", RunOptions(home=tmp_path / "new", study_storage=url))
    begun = study.records()
    assert len(begun) > 2
    assert study.files == tmp_path / "files" / "shared"
    with study.held():
        champion = finish(study)
    records = study.records()
    assert champion is not None
    assert [record.key for record in records][: len(begun)] == [record.key for record in begun]
    assert len({record.key for record in records}) == len(records)
    assert {record.state for record in records} == {TrialState.COMPLETE}
    assert Study.open("shared", tmp_path / "new").document.trials_url == url


def test_the_databases_address_is_not_in_the_database(tmp_path, url):
    study = stored(tmp_path, url)
    kept = study.storage.get_study_user_attrs(study.storage.get_study_id_from_name("shared"))
    assert url not in json.dumps(kept)
    assert kept["aiq.study"]["fingerprint"] == study.document.fingerprint


def test_this_machines_own_study_comes_first(tmp_path, url):
    stored(tmp_path / "lost", url)
    new_study(tmp_path / "here", "shared")
    assert (
        find_or_fetch("shared", RunOptions(home=tmp_path / "here", study_storage=url)).document.trials_url
        is None
    )


@pytest.mark.parametrize("name", ["digits", "../shared"])
def test_a_study_that_the_database_does_not_have_is_one_sentence(tmp_path, url, name):
    stored(tmp_path / "lost", url)
    with pytest.raises(StudyError) as refused:
        find_or_fetch(name, RunOptions(home=tmp_path / "new", study_storage=url))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_without_a_database_it_is_not_found(tmp_path):
    with pytest.raises(StudyError, match="no study 'shared'"):
        find_or_fetch("shared", RunOptions(home=tmp_path))


def test_an_id_is_taken_once_in_a_database(tmp_path, url):
    stored(tmp_path / "here", url)
    with pytest.raises(
        StudyError, match="exists already in the database; continue it with `aiq resume shared`"
    ):
        stored(tmp_path / "there", url)
