"""The storage that holds the truth about a study's trials: Optuna's journal, or a database."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend

from aiq_search.errors import StudyError, first_line
from aiq_search.study.optuna_internals import BaseJournalFileLock, JournalOperation, WatchedJournal
from aiq_search.study.record import END

__all__ = ["cut_torn_tail", "open_journal", "open_journal_to_look", "open_storage"]


# Lines that mean nothing until another follows: what a trial is made of before it is given to a worker,
# and what is kept of it before its state is told.
_AWAIT_ANOTHER = {
    JournalOperation.CREATE_TRIAL,
    JournalOperation.SET_TRIAL_PARAM,
    JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE,
    JournalOperation.SET_TRIAL_SYSTEM_ATTR,
}


# How the lines begin that hold what no record has: parameters as Optuna keeps them, the objective by epoch,
# what the pruner keeps. All that a record has is in the attributes that are written with the others.
_NOT_IN_RECORDS = tuple(
    f'{{"op_code":{operation:d},'.encode()
    for operation in (
        JournalOperation.SET_TRIAL_PARAM,
        JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE,
        JournalOperation.SET_TRIAL_SYSTEM_ATTR,
    )
)


class _HeldByDriver(BaseJournalFileLock):
    """No lock of its own: only the driver writes, and it holds the study's lock.

    Optuna's own lock files outlive a killed process and then block its successor for half a minute.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _JournalFile(JournalFileBackend):
    """The journal's file; waits for the disk only where someone is about to rely on a line.

    Every line survives the death of the process as soon as it is written. Waiting until it would survive
    the machine's takes milliseconds: once when a trial is given to a worker and once when it is told is
    enough, for the lines before go to the disk with that one.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=_HeldByDriver())
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        rest = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self.path.open("ab", buffering=0) as file:
            begin = file.seek(0, os.SEEK_END)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                if not all(map(_awaits_another, logs)):
                    os.fsync(file.fileno())
            except OSError:
                # The next line would be glued to half a one, and both be lost.
                with suppress(OSError):
                    file.truncate(begin)
                raise


class _RecordsFile(_JournalFile):
    """The journal's file for those who only look: lines that no record needs are not even parsed.

    They are two thirds of all, and Optuna takes them in one at a time, with a copy of the trial for each.
    """

    _read = (0, 0)  # how many lines were taken in, and where the next one begins

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        count, place = self._read if log_number_from == self._read[0] else (0, 0)
        with self.path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written, or a crash left it
                place += len(line)
                if line.startswith(_NOT_IN_RECORDS):
                    continue
                try:
                    log = json.loads(line)
                except ValueError:
                    if file.readline():
                        raise
                    return
                count += 1
                if count > log_number_from:
                    self._read = (count, place)
                    yield log


def _awaits_another(log: dict[str, Any]) -> bool:
    return log["op_code"] in _AWAIT_ANOTHER or END in log.get("user_attr", ())


class _Journal(WatchedJournal):
    """Optuna's journal, whose damage is one sentence."""

    def __init__(self, file: _JournalFile) -> None:
        self._path = file.path
        super().__init__(file)

    def read(self) -> None:
        try:
            super().read()
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
            raise StudyError(
                f"{self._path}: damaged and not readable by Optuna ({type(error).__name__}: {error}); "
                "restore it from a copy."
            ) from None


def open_journal(path: Path) -> BaseStorage:
    """Open a study's journal.

    Args:
        path: The file. To write to it, hold the study's lock and ``cut_torn_tail`` first.

    Raises:
        StudyError: The journal is damaged.
    """
    _check_there(path)
    return _Journal(_JournalFile(path))


def open_journal_to_look(path: Path) -> BaseStorage:
    """Open a study's journal for its records: parameters, reports and system attributes are left out.

    Args:
        path: The file.

    Raises:
        StudyError: The journal is damaged.
    """
    _check_there(path)
    return _Journal(_RecordsFile(path))


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise StudyError(f"{path}: the study's journal is missing; restore it from a copy.")


def open_storage(url: str) -> BaseStorage:
    """Open a study's database.

    Args:
        url: SQLAlchemy's URL, such as ``postgresql://user@host/name``.

    Raises:
        StudyError: It cannot be reached.
    """
    from aiq_search.study.database import (
        PatientStorage,  # imports sqlalchemy, which takes as long as all else
    )

    try:
        return PatientStorage(url)
    except Exception as error:  # SQLAlchemy's, the driver's, and Optuna's own
        raise StudyError(
            f"the study's storage cannot be opened: {first_line(error)}. Start its database (a local "
            "cluster's: aiq cluster up)."
        ) from None


def cut_torn_tail(path: Path) -> int:
    """Cut what a crash left behind the journal's last whole line.

    Optuna would append to it and so break the study for good. Hold the study's lock.

    Args:
        path: The journal.

    Returns:
        Number of bytes cut.

    Raises:
        StudyError: It is missing.
    """
    _check_there(path)
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        keep, block = size, 1 << 16
        while keep > 0:
            start = max(0, keep - block)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < size:
            file.truncate(keep)
        return size - keep
