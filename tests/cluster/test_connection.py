"""A local search's own Ray: closed to other machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from aiq_search.cluster import connected
from aiq_search.errors import AiqError

LISTENING = """
import json, sys
from pathlib import Path
from aiq_search.cluster import connected
with connected(Path(sys.argv[1])):
    import psutil, ray
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    me = psutil.Process()
    found = [c for p in (me, *me.children(recursive=True)) for c in p.net_connections("tcp")]
    addresses = sorted({c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN})
    folder = Path(ray.get_runtime_context().get_temp_dir()).parent
    print(json.dumps([addresses, oct(folder.stat().st_mode), folder.name]))
assert not folder.exists()
"""


@pytest.mark.slow
def test_other_machines_reach_no_port_of_a_local_search_and_other_users_no_file(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    addresses, mode, name = json.loads(done.stdout.splitlines()[-1])
    assert addresses
    assert mode == "0o40700"
    assert name.startswith("aiq-")
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            Exception("The current node timed out during startup. This could happen"),
            "in time: the machine is too busy or short of memory. Close other programs, then continue with",
        ),
        (ConnectionError("no head\nmore"), "no head. Fix that, then continue with `aiq resume digits-1`."),
        (RuntimeError(), "RuntimeError. Fix that, then continue with `aiq resume digits-1`."),
    ],
)
def test_a_ray_that_does_not_start_is_a_sentence(tmp_path, monkeypatch, error, expected):
    import ray

    def fail(**_):
        raise error

    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(AiqError) as refused, connected(tmp_path, study="digits-1"):
        pass
    assert str(refused.value).startswith("Ray cannot be started on this machine (its logs are in ")
    assert expected in str(refused.value)
    assert "`aiq resume digits-1`" in str(refused.value)
    assert "\n" not in str(refused.value)


LATE = """
import os, signal, sys, threading, time
from pathlib import Path
import psutil
from aiq_search.cluster.connection import connected

def suspend_the_first_agent():
    while True:
        for child in psutil.Process().children(recursive=True):
            try:
                if "agent.py" in " ".join(child.cmdline()):
                    child.suspend()
                    return
            except psutil.Error:
                pass
        time.sleep(0.01)

threading.Thread(target=suspend_the_first_agent, daemon=True).start()
with connected(Path(sys.argv[1])):
    import ray
    print(ray.get(ray.remote(lambda: 42).remote()))
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_a_ray_whose_agent_is_late_is_started_again(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LATE, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert done.stdout.splitlines()[-1] == "42"


def test_a_bug_keeps_its_traceback(tmp_path, monkeypatch):
    import ray

    def fail(**_):
        raise TypeError("unexpected keyword argument")

    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(TypeError), connected(tmp_path):
        pass
