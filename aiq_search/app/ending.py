"""How a search ends: written into the study, delivered to MLflow, and a full disk as one sentence."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.app.publish import registered
from aiq_search.errors import AiqError, first_line
from aiq_search.study import Champion, Study
from aiq_search.study.document import Ended

if TYPE_CHECKING:
    from aiq_search.search.driver import StudyDriver
    from aiq_search.tracking import MlflowListener, Undelivered

__all__ = [
    "Delivery",
    "End",
    "StorageFailedError",
    "delivering",
    "ending",
    "is_full",
    "translating_storage_errors",
]

# How long to wait for MLflow at the end, in seconds: where it does not answer, and where it is only slow (a
# champion may be large, or far to go); for a job, whose results are read in MLflow alone; and after Ctrl-C.
_DELIVERY_SECONDS = 30.0
_AT_WORK_SECONDS = 300.0
_JOB_SECONDS = 600.0
_HURRIED_SECONDS = 10.0

# What must fit on a disk that is not full: less than any event of a study, with the database's pages, takes.
_PROBE_BYTES = 64 * 1024


class StorageFailedError(AiqError):
    """The study cannot be written: its disk is full, or its database does not answer."""


@dataclass
class End:
    """How a study ended.

    Attributes:
        reason: finished, interrupted or failed.
        champion: Its champion, if there is one.
        message: Why it has none, or why it stopped by itself.
        to_publish: Whether MLflow is to have its champion and report.
    """

    reason: Ended = "failed"
    champion: Champion | None = None
    message: str | None = None
    to_publish: bool = False


@contextmanager
def ending(driver: StudyDriver, signals: Sequence[int]) -> Iterator[End]:
    """Write into the study how its search ended, whatever ended it.

    Args:
        driver: The study's driver.
        signals: Those received, which the driver drains after.

    Yields:
        How it ended, once it has.

    Raises:
        StorageFailedError: The study could not be written.
    """
    end = End()
    try:
        with translating_storage_errors(driver.study):
            yield end
    except BaseException as error:
        reason = str(error) if isinstance(error, AiqError) else f"{type(error).__name__}: {error}"
        driver.message = driver.message or reason
        with suppress(AiqError):  # the first error is the one to report
            _let_go(driver, "failed")
        raise
    if driver.message and not signals:
        end.reason = "failed"
    else:
        end.reason = "finished" if driver.finished else "interrupted"
    end.champion = _let_go(driver, end.reason)
    end.message = driver.message
    end.to_publish = end.reason == "finished"


def _let_go(driver: StudyDriver, reason: Ended) -> Champion | None:
    with translating_storage_errors(driver.study):
        champion = driver.end(reason)
        driver.study.mark_ended(reason)
    return champion


@dataclass
class Delivery:
    """What MLflow received of a study.

    Attributes:
        undelivered: What it has not received.
        registered: Whether it has the champion as a registered model, in a sentence.
    """

    undelivered: Undelivered | None = None
    registered: str | None = None


@contextmanager
def delivering(tracker: MlflowListener, study: Study, signals: Sequence[int]) -> Iterator[Delivery]:
    """At the end of the context, wait until MLflow has received everything; but not in vain.

    What it has not received stays in the study's outbox, for the next start.

    Args:
        tracker: Delivers to MLflow; it is closed.
        study: The study.
        signals: Those received: who stopped a search does not want to wait.

    Yields:
        What MLflow received, at the end.
    """
    delivery = Delivery()
    seconds, at_work = _JOB_SECONDS if os.environ.get("AIQ_JOB") else _DELIVERY_SECONDS, _AT_WORK_SECONDS
    try:
        yield delivery
    except StorageFailedError:
        seconds, at_work = _HURRIED_SECONDS, 0.0  # what cannot be written here cannot be delivered either
        raise
    finally:
        if signals:
            seconds, at_work = _HURRIED_SECONDS, 0.0
        if is_full(study.directory):
            seconds, at_work = 0.0, 0.0
        hurried = (lambda: bool(signals)) if at_work else (lambda: False)
        delivery.undelivered = tracker.close(seconds, at_work, hurried=hurried)
        delivery.registered = registered(study)


@contextmanager
def translating_storage_errors(study: Study) -> Iterator[None]:
    """Turn a full disk or a lost database into one sentence.

    Raises:
        StorageFailedError: That is what an exception came from; others pass.
    """
    try:
        yield
    except Exception as error:
        reason = _storage_error(error, study)
        if reason is None:
            raise
        raise StorageFailedError(reason) from None


def _storage_error(error: BaseException, study: Study) -> str | None:
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    resume = f"every finished trial is kept; continue with `aiq resume {study.id}`"
    step: BaseException | None = error
    while step is not None:
        full = isinstance(step, OSError) and step.errno in (errno.ENOSPC, errno.EDQUOT)
        # Tune reads a file that it could not write as one that ended too soon.
        if full or (isinstance(step, EOFError) and is_full(study.directory)):
            where = getattr(step, "filename", None) or study.directory
            return f"the disk is full ({where}): {resume}, once there is space again."
        if isinstance(step, StorageInternalError | SQLAlchemyError):
            reason = first_line(step.__cause__ or step)
            return f"the study's database does not answer ({reason}): {resume}, once it does."
        step = step.__cause__ or step.__context__
    return None


def is_full(folder: Path) -> bool:
    """Whether nothing more can be written in a folder: its disk is full, or a quota used up."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False
