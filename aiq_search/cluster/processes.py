"""Processes that outlive the command that started them, and are ended by another one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Owner", "Process", "this_boot"]

_PROC = Path("/proc")


def this_boot() -> str:
    """Names the time since the machine, or the container, was started: process numbers mean it alone."""
    first = _stat(1)
    boot = (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {first.birth if first is not None else 0}"


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
        """Further groups: another user has none of ours."""
        return None if self.uid is None else []


@dataclass(frozen=True)
class Process:
    """A process of ours, known again by its number and the moment of its birth.

    Attributes:
        pid: Its number; it leads a session of its own.
        birth: Clock ticks from the machine's start to its own: numbers are used again.
    """

    pid: int
    birth: int

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
            log: What it prints is appended there; the file is for its owner alone.
            owner: Run as this user; by default as ourselves.
        """
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            started = subprocess.Popen(  # noqa: S603 - programs of our own environment
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                user=owner.uid,
                group=owner.gid,
                extra_groups=owner.groups,
            )
        finally:
            os.close(descriptor)
        stat = _stat(started.pid)
        started.returncode = 0  # it is not waited for: `end` finds out by itself, from any process
        return cls(started.pid, stat.birth if stat else -1)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        with suppress(ChildProcessError):  # where we are its parent, its end must be taken note of
            os.waitpid(self.pid, os.WNOHANG)
        stat = _stat(self.pid)
        return stat is not None and stat.birth == self.birth and stat.state != "Z"

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 20.0) -> None:
        """End it and everything that it started, also what is left of that after its own death.

        Args:
            number: The signal that asks it kindly.
            patience: Seconds that it and its children may take.
        """
        family = self._family()
        _send([self] if self.alive else family, number)
        if not _gone(family, patience):
            _send({*family, *self._family()}, signal.SIGKILL)
            _gone(family, 5.0)

    def _family(self) -> list[Process]:
        """Itself, its descendants, and whoever else is in its session, also after its own death.

        The kernel gives a session's number to no other process while someone is in the session. Who was
        born before it is not its own, whatever the numbers say.
        """
        stats = {int(entry.name): _stat(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit()}
        now = stats.get(self.pid)
        if now is not None and now.birth != self.birth:
            return []  # all of ours are gone, or the number would not be another's
        known = {self.pid}
        while True:
            more = {
                pid
                for pid, stat in stats.items()
                if stat is not None
                and stat.birth >= self.birth
                and pid not in known
                and (stat.parent in known or stat.session in known)
            }
            if not more:
                break
            known |= more
        return [Process(pid, stat.birth) for pid in known if (stat := stats.get(pid)) is not None]


@dataclass(frozen=True)
class _Stat:
    """What the kernel says of a process: proc_pid_stat(5)."""

    state: str
    parent: int
    session: int
    birth: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it is gone, or /proc shows us none but our own
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything, parentheses too
    return _Stat(fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def _send(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        if process.alive:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _gone(processes: Sequence[Process], patience: float) -> bool:
    """Wait until none runs; whether that came about."""
    deadline = time.monotonic() + patience
    while any(process.alive for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
