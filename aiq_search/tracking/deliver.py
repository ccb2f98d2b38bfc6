"""The delivery process of a study: ``python -m aiq_search.tracking.deliver DIRECTORY [BUNDLER]``.

It carries the outbox's events to MLflow for as long as the driver lives. MLflow may be down or slow for
as long as it likes: events wait and are tried again. The driver talks to it over standard input: the
line ``finish`` asks it to deliver the rest and end; the end of the input means that the driver is gone.
The store comes in the environment (MLFLOW_TRACKING_URI), because a process list shows arguments.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.errors import AiqError
from aiq_search.redaction import redact
from aiq_search.study.events import EpochEnded, Phase, StudyEnded, StudyStarted, TrialEnded
from aiq_search.tracking.best import BestBundle
from aiq_search.tracking.letters import Letter
from aiq_search.tracking.outbox import Outbox
from aiq_search.tracking.uri import default_tracking_uri, is_server

if TYPE_CHECKING:
    from aiq_search.tracking.writer import RunWriter

__all__ = ["Delivery", "Wish", "main"]

LOCK = "delivery.lock"
LOG = "delivery.log"
PAUSE = 0.5  # seconds between passes
HURRIED_PAUSE = 0.05  # seconds between passes once the driver waits for the end
LIVE = 3.0  # seconds that the epochs of a running trial may wait, so that many go in one request
LONGEST_PAUSE = 20.0  # seconds between attempts while MLflow does not answer
LONGEST_AT_END = 2.0  # likewise, while the driver waits for the end
AFTER_DRIVER = 30.0  # seconds to continue after the driver's death: MLflow may be slow, and so is a bundle
HEAD_START = 8.0  # seconds at most that workers have to start in, before mlflow's import takes their cores
CONNECTIONS = 4  # to a server; a SQLite file takes one writer at a time

_log = logging.getLogger("aiq_search.tracking.deliver")


class Wish(IntEnum):
    """What the driver wants."""

    RUN = 0
    FINISH = 1
    ORPHANED = 2


class Driver:
    """The driver's wish, as heard on standard input."""

    def __init__(self) -> None:
        self.wish = Wish.RUN
        self.since = time.monotonic()
        self.changed = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "finish":
                self._set(Wish.FINISH)
        self._set(Wish.ORPHANED)

    def _set(self, wish: Wish) -> None:
        self.wish, self.since = wish, time.monotonic()
        self.changed.set()

    def wait(self, seconds: float) -> None:
        """Sleep, but wake up when the wish changes."""
        self.changed.wait(seconds)
        self.changed.clear()


class Delivery:
    """Carries waiting events to MLflow, pass by pass.

    Args:
        outbox: Where they wait.
        writer: Writes them.
        workers: How many trials are written at once.
    """

    def __init__(self, outbox: Outbox, writer: RunWriter, workers: int = 1) -> None:
        self._outbox = outbox
        self._writer = writer
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def run_pass(self, everything: bool) -> int:
        """Deliver what waits and return how many events arrived.

        Args:
            everything: Also the latest epochs of running trials, which otherwise wait for company.

        Raises:
            Exception: MLflow did not answer; what did not arrive still waits.
        """
        if not self._outbox.has_more(0):
            return 0
        starts = self._outbox.history(StudyStarted)
        if not starts or not isinstance(started := starts[-1].event, StudyStarted):
            return 0  # reconciling puts it there
        try:
            self._writer.connect(started)  # may find that runs are gone, so that more waits
            return self._deliver_all(self._outbox.waiting(), started.study, starts[-1].row, everything)
        except Exception:
            self._writer.doubt()
            raise

    def _deliver_all(self, letters: list[Letter], study: str, start: int, everything: bool) -> int:
        groups: dict[str, list[Letter]] = {}
        for letter in letters:
            groups.setdefault(letter.owner, []).append(letter)
        of_study = groups.pop(study, [])
        ripe = {owner: group for owner, group in groups.items() if everything or _is_ripe(group)}
        # An end before the last start is history: the study is being run again.
        end = [x for x in of_study if isinstance(x.event, StudyEnded) and x.row > start]
        beginning = [x for x in of_study if x not in end]
        arrived = self._deliver(study, beginning) + self._deliver_trials(ripe)
        if any(isinstance(x.event, TrialEnded) for group in ripe.values() for x in group):
            self._writer.write_best()
        # The end of the study comes after everything that happened before it.
        if end and len(ripe) == len(groups) and not self._outbox.has_more(letters[-1].row):
            arrived += self._deliver(study, end)
        return arrived

    def _deliver_trials(self, groups: dict[str, list[Letter]]) -> int:
        """Write trials, confirmations last because they lie under the trials that they repeat."""
        arrived = 0
        confirm = f"/{Phase.CONFIRM}/"
        for chosen in (
            [(k, g) for k, g in groups.items() if confirm not in k],
            [(k, g) for k, g in groups.items() if confirm in k],
        ):
            if self._pool is None:
                arrived += sum(self._deliver(k, g) for k, g in chosen)
            else:
                futures: list[Future[int]] = [self._pool.submit(self._deliver, k, g) for k, g in chosen]
                errors = [e for f in futures if (e := f.exception()) is not None]
                arrived += sum(f.result() for f in futures if f.exception() is None)
                if errors:
                    raise errors[0]
        return arrived

    def _deliver(self, owner: str, letters: list[Letter]) -> int:
        """Write what concerns one run; what cannot be written must not hold up the others."""
        from aiq_search.tracking.store import RefusedError
        from aiq_search.tracking.writer import NotStartedError

        if not letters:
            return 0
        write = self._writer.write_study if owner == self._writer.study else self._writer.write_trial
        try:
            write(owner, letters)
        except NotStartedError as error:
            _log.warning("%d events of %s are set aside: %s", len(letters), owner, error)
            self._outbox.set_aside(letters, str(error))
            return 0
        except RefusedError as error:
            _log.warning("MLflow refused %d events of %s: %s", len(letters), owner, redact(str(error)))
            self._writer.mark_refused(owner, str(error), time.time())
            self._outbox.refused(letters, redact(str(error)))
            return 0
        self._outbox.delivered(letters)
        return len(letters)


def _is_ripe(letters: list[Letter]) -> bool:
    """Whether a trial's events are worth a request now: it has ended, or they have waited long enough."""
    waited = time.time() - letters[0].event.time
    return waited > LIVE or waited < 0 or any(isinstance(x.event, TrialEnded) for x in letters)


class Rounds:
    """Passes of the delivery, as the driver wishes them, and the pauses between them.

    Args:
        outbox: Of the study.
        delivery: Carries events.
        writer: Writes them.
        best: Has the best network so far written as a bundle.
    """

    def __init__(self, outbox: Outbox, delivery: Delivery, writer: RunWriter, best: BestBundle) -> None:
        self._outbox = outbox
        self._delivery = delivery
        self._writer = writer
        self._best = best
        self._failures = 0
        self._closed = False
        self._begun = time.time()
        self._expecting = False  # the champion of a search that has ended, any moment now

    def run(self, wish: Wish) -> bool:
        """One pass; returns whether all that the driver wishes is done.

        A failure is logged, and remembered for the driver to report.
        """
        try:
            done = self._keep_up() if wish is Wish.RUN else self._finish()
        except Exception as error:
            self._failures += 1
            pause = self.next_pause(wish)
            _log.warning("MLflow did not take it (trying again in %.0f s): %s", pause, redact(repr(error)))
            self._outbox.remember("error", redact(str(error))[:500])
            return False
        self._failures = 0
        return done

    def next_pause(self, wish: Wish) -> float:
        """Seconds until the next pass: longer and longer while MLflow does not answer."""
        if self._failures == 0:
            return PAUSE if wish is Wish.RUN and not self._expecting else HURRIED_PAUSE
        longest = LONGEST_AT_END if wish is Wish.FINISH else LONGEST_PAUSE
        return min(longest, PAUSE * 2.0 ** min(self._failures - 1, 10))

    def _keep_up(self) -> bool:
        """While the search runs: deliver what is ripe, and now and then write a bundle."""
        self._deliver(everything=False)
        word = last_word(self._outbox)
        self._write_bundle(word, hurry=False)
        if (
            isinstance(word, StudyEnded)
            and word.reason == "finished"
            and word.champion
            and word.time > self._begun  # else it was exported when the search ended
        ):
            self._writer.expect_champion()
            self._expecting = True
        return False

    def _finish(self) -> bool:
        """Once the search is over, or its driver gone: deliver the rest and leave no run RUNNING."""
        self._deliver(everything=True)
        word = last_word(self._outbox)
        busy = self._write_bundle(word, hurry=True)
        if self._outbox.has_more(0):
            return False
        if isinstance(word, StudyStarted) and not self._closed:
            self._writer.close_study(
                "the driver ended before it could close the search; aiq resume continues it", time.time()
            )
            self._closed = True
        return not busy

    def _deliver(self, *, everything: bool) -> None:
        if self._delivery.run_pass(everything):
            self._outbox.remember("error", None)

    def _write_bundle(self, word: StudyStarted | StudyEnded | None, *, hurry: bool) -> bool:
        """Whether a bundle of the best network is being written; a finished study brings its champion's."""
        finished = word is None or (isinstance(word, StudyEnded) and word.reason == "finished")
        return not finished and self._best.look(self._writer.best_trial(), hurry=hurry)


def serve(outbox: Outbox, driver: Driver, uri: str, best: BestBundle) -> None:
    """Deliver until the driver wants no more and nothing waits, or it has been gone for some time."""
    wait_for_workers(outbox, driver)
    from aiq_search.tracking.writer import RunWriter

    outbox.retry_set_aside()
    writer = RunWriter(outbox, uri)
    rounds = Rounds(outbox, Delivery(outbox, writer, CONNECTIONS if is_server(uri) else 1), writer, best)
    while not rounds.run(wish := driver.wish):
        if wish is Wish.ORPHANED and time.monotonic() - driver.since > AFTER_DRIVER:
            _log.warning("the driver is gone: %s", outbox.undelivered())
            return
        driver.wait(rounds.next_pause(wish))


def wait_for_workers(outbox: Outbox, driver: Driver) -> None:
    """Return once a trial has reported, the driver wants to end, or the head start is over."""
    begun = time.monotonic()
    while driver.wish is Wish.RUN and time.monotonic() - begun < HEAD_START:
        if outbox.owners(EpochEnded) or outbox.owners(TrialEnded):
            return
        driver.wait(HURRIED_PAUSE)


def last_word(outbox: Outbox) -> StudyStarted | StudyEnded | None:
    """The latest of the study's starts and ends."""
    ours = [*outbox.history(StudyStarted), *outbox.history(StudyEnded)]
    word = max(ours, key=lambda letter: letter.row, default=None)
    return word.event if word and isinstance(word.event, StudyStarted | StudyEnded) else None


@contextmanager
def only_one(directory: Path, driver: Driver) -> Iterator[bool]:
    """Hold the study's delivery lock; yields False if the driver is gone before it was free."""
    with (directory / LOCK).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if driver.wish is Wish.ORPHANED:
                    yield False
                    return
                driver.wait(0.2)
            else:
                yield True
                return


def main(arguments: list[str]) -> int:
    """Run the delivery process for the study in folder ``arguments[0]``.

    The module ``arguments[1]``, if there is one, writes the bundle of the best network so far.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # Retrying is ours: MLflow's own would hold a request for minutes, past the driver's patience.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # Who stops a search may send SIGTERM to its whole family. The driver says when this process may go.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    directory = Path(arguments[0])
    driver = Driver()
    with only_one(directory, driver) as alone:
        if not alone:
            return 1
        handler = logging.FileHandler(directory / LOG)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        _log.addHandler(handler)
        _log.setLevel(logging.INFO)
        try:
            outbox = Outbox(directory)
        except AiqError as error:  # the next driver makes it again
            _log.error("%s", error)
            return 1
        _log.info("process %d delivers to %s", os.getpid(), redact(default_tracking_uri()))
        with BestBundle(outbox, directory, arguments[1] if len(arguments) > 1 else None) as best:
            serve(outbox, driver, default_tracking_uri(), best)
        _log.info("process %d ends: %s", os.getpid(), outbox.undelivered())
        outbox.close()
    return 0


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    logging.shutdown()
    # Everything is written. Tearing down torch and MLflow takes seconds, for which the driver would wait.
    os._exit(ended)
