"""``aiq`` in this process: for tests of what a command does, not of how a process starts and ends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from aiq_search.errors import AiqError

__all__ = ["Done", "run_aiq"]


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: Exit code.
        out: Standard output.
        err: Standard error, with the message of an error.
    """

    code: int
    out: str
    err: str


def run_aiq(*arguments: object, folder: Path, environment: Mapping[str, str]) -> Done:
    """Run a command, which saves the seconds that importing everything takes.

    Not for commands that talk to Ray, which reads its token once in a process.

    Args:
        arguments: Behind ``aiq``.
        folder: Where it runs.
        environment: All of its environment.

    Raises:
        Exception: It would have ended in a traceback.
    """
    from aiq_search.cli.main import app

    with _elsewhere(folder, environment):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    error = result.exception
    if isinstance(error, AiqError):
        return Done(error.exit_code, result.stdout, f"{result.stderr}{error}\n")
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return Done(result.exit_code, result.stdout, result.stderr)


@contextmanager
def _elsewhere(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    before, here = dict(os.environ), Path.cwd()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(here)
