"""Watches what Ray Tune does not: trials that take too long or wait, and Ray's control store."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import ray
from ray.tune.experiment import Trial

from aiq_search.search.runners import GRACE_SECONDS
from aiq_search.search.runners.ray_internals import actor_of
from aiq_search.space.options import ResourceOptions

__all__ = ["ControlStoreLost", "ControlStoreWatch", "TrialWatch", "why_pending"]

# A trial that has waited this long is worth a message, and again after as long.
PENDING_SECONDS = 60.0

_log = logging.getLogger("aiq_search.search")


class TrialWatch:
    """Ends trials whose epoch hangs, and logs why a trial waits. Look now and then.

    Args:
        minutes: ``search.trial_minutes``; None for no limit.
        resources: What one trial takes.
    """

    def __init__(self, minutes: float | None, resources: ResourceOptions) -> None:
        self._limit = None if minutes is None else 60 * minutes + GRACE_SECONDS
        self._resources = resources
        self._running: dict[str, float] = {}
        self._pending: dict[str, float] = {}
        self._ended: set[str] = set()

    def look(self, trials: Iterable[Trial]) -> None:
        """See how long each live trial has been where it is."""
        now = time.monotonic()
        listed = list(trials)
        running = {trial.trial_id for trial in listed if trial.status == Trial.RUNNING}
        pending = {trial.trial_id for trial in listed if trial.status == Trial.PENDING}
        self._running = {name: self._running.get(name, now) for name in running}
        self._pending = {name: self._pending.get(name, now) for name in pending}
        for trial in listed:
            if self._limit is not None and now - self._running.get(trial.trial_id, now) > self._limit:
                self._end(trial)
        # With others running, waiting is its turn in the queue.
        overdue = [name for name, since in self._pending.items() if now - since > PENDING_SECONDS]
        if overdue and not running:
            _log.warning(
                "a trial has been waiting for %.0f s: %s",
                now - min(self._pending[name] for name in overdue),
                why_pending(self._resources),
            )
            self._pending.update(dict.fromkeys(self._pending, now))  # said once a minute, for all of them

    def ended(self, trial: Trial) -> bool:
        """Whether the trial's worker was ended because it took too long."""
        return trial.trial_id in self._ended

    def _end(self, trial: Trial) -> None:
        """Kill the worker: whatever hangs in it, nothing less is sure to end it."""
        actor = actor_of(trial)
        if actor is not None and trial.trial_id not in self._ended:
            self._ended.add(trial.trial_id)
            ray.kill(actor)


def why_pending(resources: ResourceOptions) -> str:
    """What a trial needs and what the cluster has, in one sentence."""
    total, free = ray.cluster_resources(), ray.available_resources()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    needs = {"CPU": float(resources.cpu), "GPU": float(resources.gpu)}
    demands = [
        f"{needed:g} {name} ({total.get(name, 0):g} in the cluster, {free.get(name, 0):g} free)"
        for name, needed in needs.items()
        if needed
    ]
    fits = any(_holds(node["Resources"], needs) for node in nodes)
    advice = (
        "another program on the cluster holds them, or the worker is still starting."
        if fits
        else "no node is that large: add one, or lower resources.cpu or resources.gpu."
    )
    alive = "1 node is alive" if len(nodes) == 1 else f"{len(nodes)} nodes are alive"
    return f"it needs {' and '.join(demands)}; {alive}; {advice}"


def _holds(has: Mapping[str, Any], needs: Mapping[str, float]) -> bool:
    return all(has.get(name, 0) >= amount for name, amount in needs.items())


class ControlStoreLost(BaseException):
    """Ray's control store is gone. Not an ``Exception``: Tune would clean up, which waits for the store."""


class ControlStoreWatch:
    """Notices that Ray's control store (GCS) is gone, while the context lasts.

    Without it every call into Ray waits, and after a minute Ray ends this process with a line of its own.
    ``check`` raises before that. Where the process is stuck in a call already, nothing can be raised: it ends
    with the sentence.

    Args:
        address: The store's, as host:port.
        patience: Seconds without a connection after which the store is gone.
        sentence: What to print where the process has to end.
    """

    _LOOK = 1.0
    _STUCK = 5.0  # seconds in which check is called, where the process is not stuck

    def __init__(self, address: str, patience: float, sentence: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._patience = patience
        self._sentence = sentence
        self._lost = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="control-store-watch")

    def __enter__(self) -> ControlStoreWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def is_reachable(self) -> bool:
        """Whether the store takes a connection now."""
        try:
            socket.create_connection(self._address, timeout=self._patience).close()
        except OSError:
            return False
        return True

    def check(self) -> None:
        """Raise ControlStoreLost once the store is gone."""
        if self._lost.is_set():
            self._over.set()
            raise ControlStoreLost(self._sentence)

    def _look(self) -> None:
        seen = time.monotonic()
        while time.monotonic() - seen <= self._patience:
            if self._over.wait(self._LOOK):
                return
            if self.is_reachable():
                seen = time.monotonic()
        self._lost.set()
        if not self._over.wait(self._STUCK):
            print(f"aiq: {self._sentence}", file=sys.stderr, flush=True)
            os._exit(1)  # the study's storage is whole at any moment
