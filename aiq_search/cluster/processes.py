"""Processes that outlive the command that started them, and are stopped by another one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from aiq_search.polling import poll

__all__ = ["Owner", "Process", "open_log", "this_boot"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PAUSE = 0.05  # seconds between two looks at a process that is stopping


def this_boot() -> str:
    """Identify the current boot of the machine or container: process ids mean nothing beyond it."""
    return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {_birth(1)}"


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending; it is readable by its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


@dataclass(frozen=True)
class Owner:
    """The user that a process runs as.

    Attributes:
        uid: Number of the user; None for ourselves.
        gid: Number of the group; None for our own.
    """

    uid: int | None = None
    gid: int | None = None

    @property
    def groups(self) -> list[int] | None:
        """Supplementary groups: another user has none of ours."""
        return None if self.uid is None else []


@dataclass(frozen=True)
class Process:
    """A process of ours, identified by its number and the moment of its birth.

    Attributes:
        pid: Its number; it leads a session of its own.
        birth: Seconds from the machine's start to its own. Numbers are reused, and unlike the time of day
            this does not change when the clock is set.
    """

    pid: int
    birth: float

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        owner: Owner = Owner(),
    ) -> Process:
        """Start a process in a session of its own.

        Args:
            command: Program and arguments. Everyone on the machine can read them: no secrets.
            environment: All of its environment.
            folder: Its working folder.
            log: Its output is appended there; the file is readable by its owner alone.
            owner: Run as this user; by default as ourselves.
        """
        with open_log(log) as output:
            started = subprocess.Popen(  # noqa: S603 - programs of our own environment
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=owner.uid,
                group=owner.gid,
                extra_groups=owner.groups,
            )
        started.returncode = 0  # it is not waited for: `end` finds out by itself, from any process
        birth = _birth(started.pid)
        return cls(started.pid, -1.0 if birth is None else birth)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        with suppress(ChildProcessError):  # where we are its parent, its end must be collected
            os.waitpid(self.pid, os.WNOHANG)
        return _birth(self.pid) == self.birth

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 20.0) -> None:
        """Stop it and everything that it started, even what is left after its own death.

        Args:
            number: The signal that asks it to stop.
            patience: Seconds that it and its children may take; then they are killed.
        """
        family = self.family()
        _send([self] if self.alive else family, number)
        if not _gone(family, patience):
            _send({*family, *self.family()}, signal.SIGKILL)
            _gone(family, 5.0)

    def family(self) -> list[Process]:
        """Itself, its descendants and all others in their sessions, even after its own death.

        The kernel gives a session's number to no other process while someone is in the session. Processes
        older than this one are not its own, even if their numbers match.
        """
        if _birth(self.pid) not in (None, self.birth):
            return []  # the number is another process's, so all of ours are gone
        births, kin = {}, {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                births[process.pid] = _birth(process.pid)
                kin[process.pid] = {process.pid, process.ppid(), os.getsid(process.pid)}
        younger = {pid: birth for pid, birth in births.items() if birth is not None and birth >= self.birth}
        pids = {self.pid}
        while more := {pid for pid in younger if pid not in pids and kin.get(pid, set()) & pids}:
            pids |= more
        return [Process(pid, younger[pid]) for pid in pids if pid in younger]


def _birth(pid: int) -> float | None:
    """When a process was born, in seconds from the machine's start; None if it does not run."""
    boot = psutil.boot_time()  # first: some versions of psutil keep it for what follows
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() - boot, 2)
    except psutil.Error:  # it is gone, or /proc shows only our own
        return None


def _send(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        if process.alive:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _gone(processes: Sequence[Process], patience: float) -> bool:
    """Wait until none runs; whether that happened."""
    return poll(lambda: not any(each.alive for each in processes), every=_PAUSE, at_most=patience)
