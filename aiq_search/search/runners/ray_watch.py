"""Watching over what Ray Tune leaves to itself: trials that take too long, and trials that wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.tune.experiment import Trial

from aiq_search.space.schema import ResourceOptions

__all__ = ["GRACE_SECONDS", "TrialWatch", "why_pending"]

# The worker itself ends a trial between epochs; an epoch that hangs is given this much more.
GRACE_SECONDS = 5.0

# A trial that has waited this long is worth a word, and again after as long.
PENDING_SECONDS = 60.0

_log = logging.getLogger("aiq_search.search")


class TrialWatch:
    """Ends trials whose epoch hangs, and says why a trial waits. Look now and then.

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
            self._pending.update(dict.fromkeys(overdue, now))

    def ended(self, trial: Trial) -> bool:
        """Whether the trial's worker was ended because it took too long."""
        return trial.trial_id in self._ended

    def _end(self, trial: Trial) -> None:
        """Kill the worker: whatever hangs in it, nothing less is sure to end it."""
        actor = trial.temporary_state.ray_actor
        if actor is not None and trial.trial_id not in self._ended:
            self._ended.add(trial.trial_id)
            ray.kill(actor)


def why_pending(resources: ResourceOptions) -> str:
    """What a trial needs beside what the cluster has, in one sentence."""
    total, free = ray.cluster_resources(), ray.available_resources()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    needs = {"CPU": float(resources.cpu), "GPU": float(resources.gpu)}
    said = [
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
    return f"it needs {' and '.join(said)}; {len(nodes)} nodes are alive; {advice}"


def _holds(has: Mapping[str, Any], needs: Mapping[str, float]) -> bool:
    return all(has.get(name, 0) >= amount for name, amount in needs.items())
