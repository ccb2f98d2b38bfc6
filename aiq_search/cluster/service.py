"""A service of a local cluster: how it is started, known to be ready, and stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiq_search.cluster.credentials import Credentials
from aiq_search.cluster.processes import Process
from aiq_search.errors import AiqError
from aiq_search.polling import poll

__all__ = ["NotReadyError", "Service", "ServiceContext", "stopped_on_failure", "wait_until_ready"]

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class ServiceContext:
    """What the services of a cluster are started with.

    Attributes:
        folder: The cluster's folder: secrets, configuration, logs and MLflow's artifacts.
        ports: Of ``postgres``, ``mlflow``, ``ray`` and ``dashboard``.
        credentials: Of the cluster.
        data: PostgreSQL's data folder.
        scratch: Folder of the head's sockets and logs: a short path.
        workers: How many Ray workers there are.
        job_environment: Variables that jobs find on Ray's head.
    """

    folder: Path
    ports: Mapping[str, int]
    credentials: Credentials
    data: Path
    scratch: Path
    workers: int
    job_environment: Mapping[str, str]

    def log(self, service: str) -> Path:
        """The file that takes a service's output."""
        return self.folder / f"{service}.log"


@dataclass(frozen=True)
class Service:
    """A service of a local cluster.

    Attributes:
        name: Its name.
        start: Starts it. Yields a process as soon as it runs, so that it can be written down, and is
            exhausted when that one is ready. After a yield the process before it has been stopped, and also
            where this raises.
        stop_signal: What asks it to stop.
    """

    name: str
    start: Callable[[ServiceContext], Iterator[Process]]
    stop_signal: signal.Signals = signal.SIGTERM


class NotReadyError(Exception):
    """A service runs and is not ready; the message is the reason in a few words."""


@contextmanager
def stopped_on_failure(process: Process, number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Stop a process if the context ends with an error."""
    try:
        yield
    except BaseException:
        process.end(number)
        raise


def wait_until_ready(
    name: str, process: Process, log: Path, ask: Callable[[], _Answer], *, at_most: float, every: float = 0.2
) -> _Answer:
    """Ask a service until it is ready.

    Args:
        name: What it is called in the message.
        process: Its process.
        log: Where its output goes.
        ask: Returns what it answers, or raises NotReadyError.
        at_most: Seconds that it may take.
        every: Seconds between two attempts.

    Raises:
        AiqError: Its process has ended, or it takes too long.
    """
    reason = "it does not answer"
    answers: list[_Answer] = []

    def settled() -> bool:
        nonlocal reason
        if not process.alive:
            reason = "its process has ended"
            return True
        try:
            answers.append(ask())
        except NotReadyError as error:
            reason = str(error)
        return bool(answers)

    poll(settled, every=every, at_most=at_most)
    if not answers:
        raise AiqError(f"{name} did not start ({reason}); see its log: {log}")
    return answers[0]
