"""Processes that are started by one command and ended by another."""

from __future__ import annotations

import os
import signal
import stat
import sys
from dataclasses import replace

import psutil
import pytest

from aiq_search.cluster.processes import Process, this_boot
from aiq_search.polling import poll

# Starts a child in a session of its own, as Ray's jobs do, and prints its number.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
DEAF = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print(1, flush=True)\n"
    "time.sleep(600)"
)


@pytest.fixture
def start(tmp_path):
    """Start a Python program; returns it and the first line that it prints."""
    started = []

    def run(code):
        log = tmp_path / f"{len(started)}.log"
        process = Process.start([sys.executable, "-c", code], os.environ, tmp_path, log)
        started.append(process)
        until(lambda: log.read_text().endswith("\n"))
        return process, log

    yield run
    for process in started:
        process.end(signal.SIGKILL)


def until(condition):
    assert poll(condition, every=0.02, at_most=60)


def runs(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_ends_with_all_that_it_started(start):
    process, log = start(PARENT)
    child = int(log.read_text())
    assert process.alive
    assert runs(child)
    process.end(patience=1)
    assert not process.alive
    assert not runs(child)


def test_what_a_killed_process_leaves_behind_ends_too(start):
    process, log = start(PARENT.replace(", start_new_session=True", ""))
    child = int(log.read_text())
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not process.alive)
    assert runs(child)
    process.end()
    assert not runs(child)


def test_one_that_does_not_listen_is_killed(start):
    process, _ = start(DEAF)
    process.end(patience=0.3)
    assert not process.alive


def test_another_process_of_the_same_number_is_left_alone(start):
    process, _ = start(DEAF)
    before = replace(process, birth=process.birth - 1)
    assert not before.alive
    before.end(signal.SIGKILL)
    assert process.alive


def test_who_was_born_before_it_is_not_its_own(start):
    """A session's number may come again: after a reboot, or when the numbers have gone round."""
    process, log = start(PARENT.replace(", start_new_session=True", ""))
    child = int(log.read_text())
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not process.alive)
    replace(process, birth=process.birth + 100).end(signal.SIGKILL)
    assert runs(child)
    process.end(signal.SIGKILL)
    assert not runs(child)


def test_processes_that_proc_hides_count_as_gone(start, monkeypatch):
    process, _ = start(DEAF)

    def hidden(self):
        raise psutil.AccessDenied(self.pid)

    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "status", hidden)
        assert not process.alive
    assert process.alive


def test_a_process_is_known_after_the_clock_was_set(start, monkeypatch):
    process, _ = start(DEAF)
    boot, create = psutil.boot_time, psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot() + 3600)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create(self) + 3600)
    assert process.alive


def test_a_boot_is_named_by_the_machines_own_and_by_the_first_process():
    boot, _, first = this_boot().partition(" ")
    assert len(boot) == 36
    assert float(first) >= 0


def test_its_log_is_for_its_owner_alone(start):
    _, log = start(DEAF)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
