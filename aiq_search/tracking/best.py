"""The best network so far as a bundle in MLflow, while the search still runs.

Writing a bundle loads data and measures a network, which takes seconds: a process of its own does it, now and
then, at low priority. Which module that is, the app says: this room knows nothing of bundles.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from aiq_search.tracking.letters import FilesWritten
from aiq_search.tracking.outbox import Outbox

__all__ = ["BestBundle"]

_log = logging.getLogger("aiq_search.tracking.deliver")

EVERY = 60.0  # seconds before the first bundle and between two: a short search needs none but its champion's
SHARE = 20  # and so many times what writing the last one took, so that bundles stay a small part of the work
FOLDER = "best"  # in the study's folder; the bundler writes it
KEPT = "bundled"  # the fact that names the trial whose bundle was kept


class BestBundle:
    """Has the best network so far written as a bundle, and put where the delivery finds it.

    Args:
        outbox: Of the study.
        directory: Of the study.
        module: Run as ``python -m MODULE DIRECTORY``, it writes ``DIRECTORY/best/bundle``; None for none.
    """

    def __init__(self, outbox: Outbox, directory: Path, module: str | None) -> None:
        self._outbox = outbox
        self._directory = directory
        self._module = module
        self._process: subprocess.Popen[str] | None = None
        self._trial = outbox.number(KEPT)
        self._begun = time.monotonic()
        self._pause = EVERY

    def __enter__(self) -> BestBundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is still being written: nobody would deliver it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def look(self, best: int | None, *, hurry: bool) -> bool:
        """Go on with what is being written, or begin with what is new.

        Args:
            best: Number of the best trial so far.
            hurry: Do not wait for the next turn: the search is ending.

        Returns:
            Whether something is being written.
        """
        if self._module is None:
            return False
        if self._process is not None and not self._ended(self._process):
            return True
        due = hurry or time.monotonic() - self._begun >= self._pause
        if best is None or best == self._trial or not due:
            return False
        self._trial, self._begun = best, time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", self._module, str(self._directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return True

    def _ended(self, process: subprocess.Popen[str]) -> bool:
        """Whether the bundler is through; if it worked, its files are on their way."""
        if process.poll() is None:
            return False
        self._pause = max(EVERY, SHARE * (time.monotonic() - self._begun))
        said = process.communicate()[0].strip()
        self._process = None
        if process.returncode == 0:
            study = self._directory.name
            self._outbox.put([FilesWritten(study, str((self._directory / FOLDER).absolute()), time.time())])
            self._outbox.remember(KEPT, str(self._trial))
        else:
            _log.warning("no bundle of the best network so far (trial %d): %s", self._trial, said[-500:])
        return True
