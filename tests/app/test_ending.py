"""How a search ends: a full disk is one sentence within seconds, and who waits for MLflow waits a while."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from aiq_search.app.ending import (
    StorageFailedError,
    delivering,
    ending,
    is_full,
    translating_storage_errors,
)
from aiq_search.errors import InputError
from aiq_search.search.driver import StudyDriver
from aiq_search.study import Study
from aiq_search.tracking import MlflowListener, reconcile
from tests.search.simulation import finish, new_study, run

AWAY = "http://127.0.0.1:9"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs the right to mount")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(place):
    with suppress(OSError), (place / "filler").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def test_a_folder_with_room_is_not_full(tmp_path):
    assert not is_full(tmp_path)
    assert not is_full(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_out(small_disk):
    assert not is_full(small_disk)
    fill(small_disk)
    assert is_full(small_disk)


def failing(error):
    raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_however_deep_it_lies(tmp_path, number):
    study = new_study(tmp_path)
    error = RuntimeError("Tune gave up")
    error.__cause__ = OSError(number, os.strerror(number), "study.journal")
    with (
        pytest.raises(StorageFailedError, match="the disk is full") as raised,
        translating_storage_errors(study),
    ):
        failing(error)
    assert "study.journal" in str(raised.value)
    assert f"aiq resume {study.id}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_lost_database_is_one_sentence(tmp_path):
    from sqlalchemy.exc import OperationalError

    with (
        pytest.raises(StorageFailedError, match="the study's database does not answer"),
        translating_storage_errors(new_study(tmp_path)),
    ):
        failing(OperationalError("SELECT 1", {}, ConnectionError("connection refused")))


def test_other_errors_pass(tmp_path):
    with pytest.raises(EOFError), translating_storage_errors(new_study(tmp_path)):
        failing(EOFError("Ran out of input"))


def test_a_file_that_ended_too_soon_on_a_full_disk_is_the_full_disk(small_disk):
    study = new_study(small_disk)
    fill(small_disk)
    with pytest.raises(StorageFailedError, match="the disk is full"), translating_storage_errors(study):
        failing(EOFError("Ran out of input"))


def test_for_what_cannot_be_written_nobody_waits_for_mlflow(small_disk):
    study = new_study(small_disk)
    finish(study)
    tracker = MlflowListener(study.directory, AWAY)
    reconcile(study, tracker)
    begun = time.monotonic()
    with delivering(tracker, study, []) as delivery:
        fill(small_disk)
    assert time.monotonic() - begun < 10
    assert delivery.undelivered.waiting


def test_who_has_pressed_ctrl_c_does_not_wait_long(tmp_path, monkeypatch):
    monkeypatch.setattr("aiq_search.app.ending._HURRIED_SECONDS", 0.5)
    study = new_study(tmp_path)
    finish(study)
    tracker = MlflowListener(study.directory, AWAY)
    reconcile(study, tracker)
    begun = time.monotonic()
    with delivering(tracker, study, [2]) as delivery:
        pass
    assert time.monotonic() - begun < 10
    assert delivery.undelivered.waiting


def again(study):
    return Study.open(study.id, study.home)


def test_a_finished_study_is_to_be_published(tmp_path):
    study = new_study(tmp_path)
    driver = StudyDriver(study)
    with ending(driver, []) as end:
        driver.begin()
        run(driver)
    assert (end.reason, end.to_publish, end.message) == ("finished", True, None)
    assert end.champion.document() == study.champion().document()
    assert again(study).document.ended == "finished"


def test_what_was_stopped_by_a_signal_is_interrupted_and_not_published(tmp_path):
    study = new_study(tmp_path)
    driver = StudyDriver(study)
    with ending(driver, [15]) as end:
        driver.begin()
        run(driver, stop_after=3)
        driver.draining = True
    assert (end.reason, end.to_publish) == ("interrupted", False)
    assert again(study).document.ended == "interrupted"


def test_an_error_is_kept_as_the_reason_and_passes(tmp_path):
    study = new_study(tmp_path)
    driver = StudyDriver(study)
    driver.begin()
    with pytest.raises(InputError, match="no such GPU"), ending(driver, []):
        raise InputError("no such GPU")
    assert driver.message == "no such GPU"
    assert again(study).document.ended == "failed"


def test_the_first_error_is_the_one_that_is_reported(tmp_path):
    study = new_study(tmp_path)

    def end(reason):
        raise OSError(errno.ENOSPC, "No space left on device")

    driver = SimpleNamespace(study=study, message=None, finished=False, end=end)
    with pytest.raises(ZeroDivisionError), ending(driver, []):
        raise ZeroDivisionError


def test_a_full_disk_at_the_very_end_is_reported_too(tmp_path):
    def end(reason):
        raise OSError(errno.ENOSPC, "No space left on device")

    driver = SimpleNamespace(study=new_study(tmp_path), message=None, finished=True, end=end)
    with pytest.raises(StorageFailedError, match="the disk is full"), ending(driver, []):
        pass
