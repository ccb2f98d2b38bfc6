"""What a crash, damage or a full disk does to a journal."""

from __future__ import annotations

import resource

import pytest

from aiq_search.errors import StudyError
from aiq_search.study import Phase, Study
from aiq_search.study.storage import cut_torn_tail
from tests.search.simulation import finish, new_study


@pytest.mark.parametrize("tail", [b'{"op_code": 4, "worker', b"x" * 200_000, b"\0\0\0"])
def test_a_torn_tail_is_cut_and_the_study_goes_on(tmp_path, tail):
    study = new_study(tmp_path, "one")
    finish(study)
    whole = study.journal.read_bytes()
    study.journal.write_bytes(whole + tail)
    assert len(Study.open("one", tmp_path).records()) == 18  # looking needs no repair
    assert cut_torn_tail(study.journal) == len(tail)
    assert study.journal.read_bytes() == whole
    assert cut_torn_tail(study.journal) == 0


def test_a_journal_damaged_in_the_middle_is_an_error_not_a_traceback(tmp_path):
    study = new_study(tmp_path, "one")
    finish(study)
    lines = study.journal.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b"garbage\n"
    study.journal.write_bytes(b"".join(lines))
    with pytest.raises(StudyError, match="damaged"):
        Study.open("one", tmp_path).records()


def test_a_missing_journal_is_an_error_and_is_not_made(tmp_path):
    study = new_study(tmp_path, "one")
    study.journal.unlink()
    with pytest.raises(StudyError, match="journal is missing"):
        Study.open("one", tmp_path).records()
    assert not study.journal.exists()


def test_a_full_disk_leaves_no_half_line_in_the_journal(tmp_path):
    study = new_study(tmp_path, "one")
    whole = study.journal.read_bytes()
    trials = study.load(Phase.EXPLORE)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 9, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            trials.ask()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert study.journal.read_bytes() == whole
    trials.ask()
    assert len(Study.open("one", tmp_path).load(Phase.EXPLORE).trials) == 1
