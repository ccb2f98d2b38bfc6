"""The first signal drains a search; Ctrl-C after it ends the process at once."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from aiq_search.app.signals import draining_on_signals

PROGRAM = """
import os, signal, time
from types import SimpleNamespace
from aiq_search.app.signals import draining_on_signals
driver = SimpleNamespace(draining=False, study=SimpleNamespace(id="digits-1"))
with draining_on_signals(driver):
    for number in {signals}:
        os.kill(os.getpid(), number)
    print("goes on", driver.draining, flush=True)
"""


def ended(*signals):
    program = PROGRAM.format(signals=[int(number) for number in signals])
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_signal_ends_the_process_at_once(first):
    done = ended(first, signal.SIGINT)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines() == [
        "Stopping after the running epochs; press Ctrl-C again to quit now.",
        "Quit. Continue with: aiq resume digits-1",
    ]


def test_a_repeated_sigterm_changes_nothing():
    done = ended(signal.SIGTERM, signal.SIGTERM)
    assert (done.returncode, done.stdout) == (0, "goes on True\n")


def test_the_handlers_of_before_are_back_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    driver = SimpleNamespace(draining=False)
    with draining_on_signals(driver) as received:
        os.kill(os.getpid(), signal.SIGTERM)
    assert (received, driver.draining) == ([signal.SIGTERM], True)
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_signals_are_left_to_the_main_one():
    seen = []

    def search():
        with draining_on_signals(SimpleNamespace(draining=False)) as received:
            seen.append(received)

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert seen == [[]]
