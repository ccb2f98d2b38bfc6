"""A worker that computes its reports, keeps its checkpoints, and fails where a test wants it to."""

from __future__ import annotations

import errno
import json
import os
import time
from functools import partial
from pathlib import Path

from aiq_search.places import StorageError
from aiq_search.worker import Report
from tests.search.reports import report_of


class FaultyWorker:
    """Reports as ``SimulatedWorker`` does, but for faults.

    Args:
        faults: Of exploring trials, by number: what happens instead of their second epoch. ``raise`` and
            ``exit`` end the worker, ``raise once`` only the first time; ``hang`` hangs; with ``full`` and
            ``away`` the study's disk is; ``diverge`` is a failed trial.
        folder: For notes of what happened.
    """

    def __init__(self, faults, folder):
        self._faults = faults
        self._folder = folder

    def begin(self, assignment):
        self._assignment = assignment
        checkpoint = Path(assignment.checkpoint)
        self._epoch = json.loads(checkpoint.read_text()) if checkpoint.is_file() else 0
        self._first = 1

    def step(self):
        _, phase, number = self._assignment.key.rsplit("/", 2)
        self._epoch += 1
        if self._epoch == 2 and phase == "explore":
            report = self._fail(self._faults.get(int(number)), number)
            if report is not None:
                return report
        # After a checkpoint the worker reports every epoch again.
        epochs = [report_of(self._assignment, n).epochs[0] for n in range(self._first, self._epoch + 1)]
        self._first = self._epoch + 1
        last = report_of(self._assignment, self._epoch)
        return Report(tuple(epochs), last.chosen, last.size, last.done, last.final)

    def _fail(self, fault, number):
        note = Path(self._folder) / f"{fault}-{number}"
        again = note.exists()
        note.touch()
        if fault == "raise" or (fault == "raise once" and not again):
            raise RuntimeError("the worker has a bug")
        if fault == "exit":
            raise SystemExit(3)
        if fault == "hang":
            time.sleep(300)
        if fault == "full":
            raise StorageError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint")
        if fault == "away":
            raise StorageError(errno.EIO, "the store is away", "checkpoint")
        if fault == "diverge":
            return Report(done=True, reason="diverged: the loss is nan", traceback="Traceback: …")
        return None

    def put_aside(self):
        Path(self._assignment.checkpoint).write_text(json.dumps(self._epoch))


class SightWorker:
    """Reports which GPUs it sees, and how it was created."""

    def __init__(self, dataset, threads, gpu):
        self._arguments = (dataset, threads, gpu)

    def begin(self, assignment):
        """Nothing to get ready."""

    def step(self):
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        return Report(done=True, reason=json.dumps([seen, *self._arguments]))

    def put_aside(self):
        """There is nothing to keep."""


def making(faults, folder):
    """What creates a ``FaultyWorker`` with these faults."""
    return partial(_make, faults, str(folder))


def _make(faults, folder, dataset=None, threads=1, gpu=0):
    return FaultyWorker(faults, folder)
