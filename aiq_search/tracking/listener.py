"""The listener that feeds MLflow: it puts events into the outbox and keeps the delivery process alive."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiq_search.redaction import redact
from aiq_search.study.events import Event
from aiq_search.tracking.letters import ChampionExported, FilesWritten, Happening
from aiq_search.tracking.outbox import Outbox, Undelivered
from aiq_search.tracking.uri import check_tracking_uri, default_tracking_uri

__all__ = ["MlflowListener"]

_log = logging.getLogger(__name__)

CHECK_EVERY = 1.0  # seconds between looks at the delivery process
BUSY = 0.25  # seconds that an event may hold the driver while the other process writes


class MlflowListener:
    """Tells MLflow what happens in a study, without ever making the study wait.

    ``on_event`` writes to a local file and returns (some 0.1 ms). A process of its own carries the
    events on. If it dies, it is started again; if the disk is full, events are kept in memory and tried
    again with the next one.

    Args:
        directory: Folder of the study; the outbox is made in it.
        tracking_uri: MLflow's store, by default that of ``default_tracking_uri``.
        bundler: Module that writes the best network so far as a bundle, see ``BestBundle``.

    Raises:
        InputError: MLflow cannot keep runs at ``tracking_uri``.
    """

    def __init__(self, directory: Path, tracking_uri: str | None = None, bundler: str | None = None) -> None:
        self.tracking_uri = check_tracking_uri(tracking_uri or default_tracking_uri())
        self.directory = directory
        self._bundler = bundler
        self._outbox = Outbox(directory, busy_timeout=BUSY, rebuild=True)
        if self._outbox.damage:
            _log.warning("%s; it is made again from the study.", self._outbox.damage)
        self._unwritten: deque[Happening] = deque()
        self._process: subprocess.Popen[str] | None = None
        self._looked = -CHECK_EVERY
        self._closed = False

    @property
    def outbox(self) -> Outbox:
        """Where the events wait."""
        return self._outbox

    @property
    def process_id(self) -> int | None:
        """Process that delivers, if one runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def on_event(self, event: Event) -> None:
        """Keep an event for MLflow. Returns at once and never raises."""
        self.put([event])

    def attach(self, study: str, folder: Path) -> None:
        """Keep the files of a folder with the study's run in MLflow, once it is there."""
        self.put([FilesWritten(study, str(folder.absolute()), time.time())])

    def register(self, study: str, folder: Path, champion: Mapping[str, Any]) -> None:
        """Have the bundle in a folder registered as a model; see ``aiq_search.tracking.model_registry``."""
        self.put([ChampionExported(study, str(folder.absolute()), champion, time.time())])

    def put(self, events: Iterable[Happening]) -> int:
        """Keep events for MLflow; returns how many the outbox did not know."""
        self._unwritten.extend(events)
        new = 0
        try:
            new = self._write()
        except (sqlite3.Error, OSError) as error:
            _log.debug("%d events stay in memory: %s", len(self._unwritten), error)
        with suppress(OSError, sqlite3.Error):
            self._keep_delivering()
        return new

    def close(
        self, timeout: float = 30.0, at_work: float = 0.0, hurried: Callable[[], bool] = lambda: False
    ) -> Undelivered:
        """Deliver what waits, and say what MLflow lacks then.

        What is left stays in the outbox; the next start of the study takes it up.

        Args:
            timeout: Seconds for it, where MLflow does not answer.
            at_work: Seconds more where nothing has failed and MLflow is only slow to take it.
            hurried: Whether whoever waits for it wants to wait no more.
        """
        if self._closed:
            return Undelivered()
        self._closed = True
        deadline = time.monotonic() + timeout
        announce = at_work > 0
        with suppress(sqlite3.Error, OSError):
            self._write()
        while True:
            left = self._rest()
            over = time.monotonic() - deadline
            if not left.waiting or hurried() or over >= (0 if left.error else at_work):
                break
            if announce and over > 0:
                _log.warning("MLflow is still taking the last events; Ctrl-C leaves them for later.")
                announce = False
            self._looked = -CHECK_EVERY
            with suppress(OSError):
                self._keep_delivering()
            self._ask_to_finish()
            with suppress(subprocess.TimeoutExpired):
                self._wait(min(1.0, max(0.05, deadline + at_work - time.monotonic())))
        self._end_process(grace=max(1.0, deadline - time.monotonic()))
        left = self._rest()
        self._outbox.close()
        return left

    def _rest(self) -> Undelivered:
        """What MLflow lacks, with the events that could not even be written down."""
        try:
            left = self._outbox.undelivered()
        except sqlite3.Error as error:
            return Undelivered(waiting=len(self._unwritten), error=str(error))
        if not self._unwritten:
            return left
        return replace(left, waiting=left.waiting + len(self._unwritten))

    def _write(self) -> int:
        if not self._unwritten:
            return 0
        new = self._outbox.put(list(self._unwritten))
        self._unwritten.clear()
        return new

    def _keep_delivering(self) -> None:
        """Start the delivery process if there is none (any more); looks at most once a second."""
        now = time.monotonic()
        if now - self._looked < CHECK_EVERY:
            return
        self._looked = now
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        log = self.directory / "delivery.err"
        command = [sys.executable, "-m", "aiq_search.tracking.deliver", str(self.directory)]
        with log.open("w") as stderr:
            # A session of its own: Ctrl-C in the terminal is the driver's business.
            return subprocess.Popen(  # noqa: S603 - our own module
                [*command, *([self._bundler] if self._bundler else [])],
                env=os.environ | {"MLFLOW_TRACKING_URI": self.tracking_uri, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=stderr,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )

    def _ask_to_finish(self) -> None:
        if self._process and self._process.stdin:
            with suppress(OSError, ValueError):
                self._process.stdin.write("finish\n")
                self._process.stdin.flush()

    def _wait(self, seconds: float) -> None:
        if self._process:
            self._process.wait(seconds)

    def _end_process(self, grace: float) -> None:
        """See the delivery process out: it ends by itself when nothing waits, else it is ended."""
        if self._process is None:
            return
        self._ask_to_finish()
        if self._outbox_is_empty():
            with suppress(subprocess.TimeoutExpired):
                self._wait(grace)
        if self._process.poll() is None:
            self._process.kill()  # nothing is lost: what it was writing still waits in the outbox
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        self._process.wait()

    def _outbox_is_empty(self) -> bool:
        with suppress(sqlite3.Error):
            return not self._outbox.undelivered().waiting
        return False

    def __repr__(self) -> str:
        return f"MlflowListener({str(self.directory)!r}, {redact(self.tracking_uri)!r})"
