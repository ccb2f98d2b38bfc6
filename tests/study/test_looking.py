"""Looking reads only what records need of the journal; it sees the same as the driver does."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiq_search.errors import StudyError
from aiq_search.search.driver import StudyDriver
from aiq_search.study import Study
from tests.search.simulation import finish, new_study, run


def opened(study: Study) -> Study:
    return Study.open(study.id, study.directory.parent.parent)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = new_study(tmp_path, search={"pruner": "asha", "trials": 20, "duplicates": "known_result"})
    finish(made, concurrency=3)
    return made


def both(study: Study) -> tuple[Study, Study]:
    """The study for who looks, and with all of its journal read."""
    looked, whole = opened(study), opened(study)
    assert whole.storage
    return looked, whole


def test_records_finalists_and_champion_are_those_that_the_driver_has(study: Study) -> None:
    looked, whole = both(study)
    assert looked.records() == whole.records() == study.records()
    assert looked.finalists == whole.finalists
    assert looked.champion().document() == whole.champion().document()
    assert looked.complete == whole.complete


def test_what_is_written_later_is_seen(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    looked = opened(study)
    assert looked.records() == []
    driver = StudyDriver(study)
    driver.begin()
    for _ in range(5):
        run(driver, stop_after=3, concurrency=2)
        assert looked.records() == opened(study).records() == study.records()


def test_a_line_that_is_being_written_is_not_yet_there(study: Study) -> None:
    records = study.records()
    journal = study.journal.read_bytes()
    lines = journal.splitlines(keepends=True)
    for torn in (lines[-1][:-1], lines[-1][:7], b'{"op_code":5,"wor'):
        study.journal.write_bytes(b"".join(lines[:-1]) + torn)
        looked = opened(study)
        before = looked.records()
        assert before == both(study)[1].records()
        study.journal.write_bytes(journal)
        assert looked.records() == records


def test_a_damaged_line_is_an_error(study: Study) -> None:
    lines = study.journal.read_bytes().splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if line.startswith(b'{"op_code":8')]
    lines[places[3]] = b"not JSON\n"
    study.journal.write_bytes(b"".join(lines))
    with pytest.raises(StudyError, match=r"study\.journal: damaged"):
        opened(study).records()


def test_the_driver_reads_all_of_it(study: Study) -> None:
    looked = opened(study)
    assert looked.records()
    trials = looked.storage.get_all_trials(looked.storage.get_study_id_from_name(study.id))
    assert all(trial.params and trial.intermediate_values for trial in trials if trial.state.is_finished())
