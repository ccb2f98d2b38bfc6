"""Ray's control store is watched: without it every call into Ray waits, until Ray ends the process."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from aiq_search.search.runners.ray_watch import ControlStoreLost, ControlStoreWatch


@pytest.fixture
def store():
    """Something that listens, as the control store does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def watch(server, patience=0.5):
    return ControlStoreWatch(f"127.0.0.1:{server.getsockname()[1]}", patience, "it is gone")


def test_while_the_store_listens_nothing_happens(store):
    with watch(store) as watched:
        time.sleep(2.5)
        assert watched.is_reachable()
        watched.check()


def test_once_it_is_gone_the_next_check_raises(store):
    with watch(store) as watched:
        store.close()
        assert not watched.is_reachable()
        time.sleep(3)
        with pytest.raises(ControlStoreLost, match="it is gone"):
            watched.check()


def test_no_handler_of_exceptions_catches_it():
    assert not issubclass(ControlStoreLost, Exception)


STUCK = """
import socket, time
from aiq_search.search.runners.ray_watch import ControlStoreWatch
with socket.create_server(("127.0.0.1", 0)) as server:
    address = f"127.0.0.1:{server.getsockname()[1]}"
ControlStoreWatch._STUCK = 0.5
with ControlStoreWatch(address, 0.5, "it is gone; continue with `aiq resume digits-1`"):
    time.sleep(60)
"""


def test_a_process_that_is_stuck_in_ray_ends_with_the_sentence():
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "aiq: it is gone; continue with `aiq resume digits-1`"
    assert time.monotonic() - begin < 50
