"""The storage that holds the truth about a study's trials: Optuna's journal, or a database."""

from __future__ import annotations

from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from aiq_search.errors import StudyError
from aiq_search.search.database import PatientStorage

__all__ = ["cut_torn_tail", "open_journal", "open_storage"]


class _HeldByDriver(BaseJournalFileLock):
    """No lock of its own: only the driver writes, and it holds the study's lock.

    Optuna's own lock files outlive a killed process and then block its successor for half a minute.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _Journal(JournalStorage):
    """Optuna's journal, whose damage is a sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(JournalFileBackend(str(path), lock_obj=_HeldByDriver()))

    def _sync_with_backend(self) -> None:
        try:
            super()._sync_with_backend()
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
    if not path.is_file():
        raise StudyError(f"{path}: the study's journal is missing; restore it from a copy.")
    return _Journal(path)


def open_storage(url: str) -> BaseStorage:
    """Open a study's database.

    Args:
        url: SQLAlchemy's URL, such as ``postgresql://user@host/name``.

    Raises:
        StudyError: It cannot be reached.
    """
    try:
        return PatientStorage(url)
    except Exception as error:  # SQLAlchemy's, the driver's, and Optuna's own
        reason = str(error).strip().splitlines()[0]
        raise StudyError(f"the study's storage cannot be opened: {reason}") from None


def cut_torn_tail(path: Path) -> int:
    """Cut what a crash left behind the journal's last whole line.

    Optuna would append to it and so break the study for good. Hold the study's lock.

    Args:
        path: The journal.

    Returns:
        Number of bytes cut.
    """
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
