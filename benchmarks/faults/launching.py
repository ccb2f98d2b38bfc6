"""Starting ``aiq``: as a command, or as a fork of a process that has imported everything already.

Imports are most of a driver's start, and no fault is about them. A fork is a process like any other: it has
its own id, and is killed by it.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Protocol

__all__ = ["REPOSITORY", "Forked", "Process", "start"]

REPOSITORY = Path(__file__).parents[2]

# What a driver imports on its way; loaded before the fork.
_PRELOADED = ["benchmarks.faults.simulated", "aiq_search.app.doctor", "sklearn.datasets", "pandas"]


# Rows run in threads, and multiprocessing reads an exit code only once, in whichever thread comes first.
_ONE_AT_A_TIME = threading.Lock()


class Process(Protocol):
    """What a fault needs of a process; ``subprocess.Popen`` has it."""

    @property
    def pid(self) -> int:
        """Its id."""

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code."""

    def terminate(self) -> None:
        """Send it SIGTERM."""

    def kill(self) -> None:
        """Send it SIGKILL."""


def start(
    module: str, arguments: list[str], environment: Mapping[str, str], folder: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start a module as a command.

    Args:
        module: Its name.
        arguments: Those of the command line.
        environment: What differs from ours.
        folder: The current one.
        log: Takes what it writes.
    """
    given = {**os.environ, **environment}
    given.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", module, *arguments]
    with log.open("w") as file:
        return subprocess.Popen(
            command, cwd=folder, env=given, stdout=file, stderr=file, stdin=subprocess.DEVNULL
        )


class Forked:
    """A module's ``main`` that runs in a fork; the arguments are those of ``start``."""

    def __init__(
        self, module: str, arguments: list[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        log.touch()
        with _ONE_AT_A_TIME:
            self._process = _forks().Process(target=_run, args=(module, arguments, environment, folder, log))
            self._process.start()

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid or 0

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        with _ONE_AT_A_TIME:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It did not come.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("aiq", timeout or 0.0)
            time.sleep(0.02)
        return code

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._process.kill()


@cache
def _forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _run(module: str, arguments: list[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
    """Be what the command would be; runs in the fork."""
    os.environ.update(environment)
    os.environ.pop("RAY_ADDRESS", None)
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()
