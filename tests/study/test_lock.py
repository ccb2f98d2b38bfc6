"""One driver for each study: the file lock. That of a database is in test_database.py."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading

import pytest

from aiq_search.errors import AiqError, StudyError
from aiq_search.study import StudyLock
from tests.search.simulation import new_study


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
