"""One cluster of plain processes for all tests of this folder that need one: real services, a real search."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.command_line import run_aiq

SPACES = Path(__file__).parents[2] / "search_spaces"
SMALL = ["--trials", "3", "--set", "confirm.finalists=1", "--set", "confirm.seeds=2"]
SMALL += ["--set", "training.epochs=2"]

# What a user's environment may hold, and these tests' own must not.
_OTHERS = ("RAY_", "MLFLOW_", "AIQ_", "PG")

# Commands that talk to Ray's Jobs API: each reads the token in a process of its own.
_RAY = ("submit", "jobs", "status", "logs", "stop", "resume")


class Cluster:
    """A folder with a cluster, and the command line in it.

    Args:
        folder: Where commands run; the cluster is in its folder ``.aiq``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS)}

    def aiq(self, *arguments: object, code: int = 0, **environment: str) -> str:
        """Run a command; its standard output. ``said`` is its standard error."""
        variables = self.environment | environment
        if arguments[0] in _RAY:
            done = subprocess.run(
                [sys.executable, "-m", "aiq_search", *map(str, arguments)],
                cwd=self.folder,
                env=variables,
                capture_output=True,
                text=True,
                timeout=600,
            )
            self.said, out, ended = done.stderr, done.stdout, done.returncode
        else:
            here = run_aiq(*arguments, folder=self.folder, environment=variables)
            self.said, out, ended = here.err, here.out, here.code
        assert ended == code, self.said
        assert "Traceback" not in self.said
        return out

    @property
    def state(self) -> dict:
        return json.loads((self.folder / ".aiq" / "cluster" / "state.json").read_text())

    def secrets(self) -> dict[str, str]:
        return json.loads((self.folder / ".aiq" / "cluster" / "credentials.json").read_text())

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.state['ports'][name]}"


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that runs; test_up_and_down.py, the last file, stops it."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        with socket.socket() as preferred:
            # Or `aiq ui` of another test could take the port while MLflow is restarted.
            with suppress(OSError):
                preferred.bind(("127.0.0.1", 5000))
            # A user's own variables, which PostgreSQL's clients would prefer to ours.
            made.aiq("cluster", "up", PGPASSWORD="another", PGHOSTADDR="192.0.2.1", PGSSLMODE="verify-full")
        yield made
    finally:
        made.aiq("cluster", "down", "--delete-data", "--yes")
