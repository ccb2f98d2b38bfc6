import fcntl
import json
import os
import resource
import subprocess
import sys
import threading

import pytest

from aiq_search.errors import AiqError, StudyError
from aiq_search.study import Phase, Study, StudyLock, list_studies
from aiq_search.study.storage import cut_torn_tail
from tests.search.simulation import finish, new_study


def test_an_id_names_the_space_and_the_time(tmp_path):
    from tests.search.simulation import DATASET, simulated_space

    study = Study.create(tmp_path, simulated_space(), DATASET)
    assert __import__("re").fullmatch(r"simulated-\d{8}-\d{6}-[0-9a-f]{4}", study.id)


def test_a_space_s_name_means_its_newest_study(tmp_path):
    first, second = new_study(tmp_path, "one"), new_study(tmp_path, "two")
    assert Study.find(tmp_path, "one").id == first.id
    assert Study.find(tmp_path, "simulated").id == second.id
    assert [study.id for study in list_studies(tmp_path)] == ["one", "two"]


def test_an_unknown_study_offers_the_nearest(tmp_path):
    new_study(tmp_path, "digits-1")
    with pytest.raises(StudyError, match='did you mean "digits-1"'):
        Study.find(tmp_path, "digits-2")
    with pytest.raises(StudyError, match='did you mean "simulated"'):
        Study.find(tmp_path, "simulatd")
    with pytest.raises(StudyError, match="there is none yet"):
        Study.find(tmp_path / "empty", "digits")


@pytest.mark.parametrize("study_id", ["../evil", "a/b", "", ".hidden", "x" * 200])
def test_an_id_cannot_leave_the_folder(tmp_path, study_id):
    with pytest.raises(StudyError):
        new_study(tmp_path, study_id)
    with pytest.raises(StudyError):
        Study.open(tmp_path, study_id)


def test_a_study_is_never_overwritten(tmp_path):
    finish(new_study(tmp_path, "one"))
    with pytest.raises(StudyError, match="exists already; continue it with `aiq resume one`"):
        new_study(tmp_path, "one")
    assert len(Study.open(tmp_path, "one").records()) == 18


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"space": {}}'])
def test_a_damaged_document_is_named(tmp_path, content):
    study = new_study(tmp_path, "one")
    (study.directory / "study.json").write_text(content)
    with pytest.raises(StudyError, match=r"study\.json: damaged"):
        Study.open(tmp_path, "one")
    assert list_studies(tmp_path) == []


@pytest.mark.parametrize("tail", [b'{"op_code": 4, "worker', b"x" * 200_000, b"\0\0\0"])
def test_a_torn_tail_is_cut_and_the_study_goes_on(tmp_path, tail):
    study = new_study(tmp_path, "one")
    finish(study)
    whole = study.journal.read_bytes()
    study.journal.write_bytes(whole + tail)
    assert len(Study.open(tmp_path, "one").records()) == 18  # looking needs no repair
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
        Study.open(tmp_path, "one").records()


def test_a_missing_journal_is_an_error_and_is_not_made(tmp_path):
    study = new_study(tmp_path, "one")
    study.journal.unlink()
    with pytest.raises(StudyError, match="journal is missing"):
        Study.open(tmp_path, "one").records()
    assert not study.journal.exists()


def test_one_driver_holds_a_study_and_is_named(tmp_path):
    study = new_study(tmp_path, "one")
    path = study.directory / "lock"
    assert not study.is_running
    with StudyLock(path):
        assert study.is_running
        with pytest.raises(StudyError, match=f"another driver \\(process {os.getpid()} on"), StudyLock(path):
            pass
    assert not study.is_running


def test_whoever_looks_at_a_lock_does_not_keep_a_driver_out(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.06, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with StudyLock(path):
            assert StudyLock.is_held(path)


def test_a_lock_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(AiqError, match="the study's lock cannot be written"), StudyLock(tmp_path / "lock"):
        pass


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
    assert len(Study.open(tmp_path, "one").load(Phase.EXPLORE).trials) == 1


def test_the_death_of_the_holder_frees_the_lock(tmp_path):
    study = new_study(tmp_path, "one")
    path = study.directory / "lock"
    code = (
        "import sys, time, pathlib\n"
        "from aiq_search.study.lock import StudyLock\n"
        "with StudyLock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert study.is_running
        holder.kill()
    with StudyLock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
