"""What a view of a search keeps of its events: counts, pace, the best so far, and the finalists' ranking."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from aiq_search.space import SearchSpace, load_space
from aiq_search.study import (
    EpochEnded,
    Event,
    Phase,
    PhaseStarted,
    StudyStarted,
    TrialEnded,
    TrialKey,
    TrialRecord,
    TrialStarted,
    TrialState,
)
from aiq_search.study.champion import break_tie, is_eligible, judge_finalists
from aiq_search.study.finalists import verdicts
from aiq_search.study.metrics import EXACT, HEADLINE
from aiq_search.study.progress import Best, objective_of, ranking
from aiq_search.study.record import without_retried
from aiq_search.words import shown

__all__ = ["Tally"]

_PACE = 3  # trials that must have ended before there is a pace

_LABELS = {"aiq": "aIQ"}


class Tally:
    """Counts, the running trials, and the best so far."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(TrialState, 0)
        self.running: dict[TrialKey, tuple[TrialStarted, int, float | None]] = {}
        self.best: Best[TrialEnded] = Best()
        self.best_line = "none feasible yet"
        self.phase: PhaseStarted | None = None
        self.done = 0
        self._since: float | None = None  # the phase's first epoch: until then workers are starting
        self._space: SearchSpace | None = None
        self._records: dict[Phase, list[TrialRecord]] = {phase: [] for phase in Phase}
        self._finalists: list[str] = []

    def remember(self, records: Iterable[TrialRecord]) -> None:
        """Count the trials of earlier drivers; whatever has not ended continues as a new event."""
        for record in without_retried(records):
            if record.finished:
                self.take(record.begun(0.0))
                self.take(record.told(0.0))

    def take(self, event: Event) -> bool:
        """Count an event; returns whether it is of a new best trial."""
        match event:
            case StudyStarted():
                self.best = Best(objective_of(event.document))
                self._space = load_space(event.document["space"])
            case PhaseStarted() if self.phase and self._only_total_changes(self.phase, event):
                self.phase = replace(self.phase, total=event.total)
            case PhaseStarted():
                self.phase, self.done, self._since = event, event.done, None
            case TrialStarted():
                self.running[event.key] = (event, 0, None)
            case EpochEnded() if event.key in self.running:
                self._since = self._since or time.monotonic()
                started, _, _ = self.running[event.key]
                self.running[event.key] = (started, event.epoch, event.metrics.get("aiq"))
            case TrialEnded():
                return self._end(event)
        return False

    def _only_total_changes(self, before: PhaseStarted, event: PhaseStarted) -> bool:
        """Whether the phase runs already and turns out longer or shorter: the pace stays."""
        return before.phase is event.phase and before.total != event.total and event.done == self.done

    def _end(self, event: TrialEnded) -> bool:
        running = self.running.pop(event.key, None)
        self.counts[event.state] += 1
        self.done += 1
        if running:
            self._records[event.key.phase].append(TrialRecord.of_events(running[0], event))
            if event.key.phase is Phase.CONFIRM and self._space is not None:
                self._finalists = self._judged(self._space)
        is_best = self.best.add(event)
        if is_best:
            name = running[0].name if running else str(event.key)
            self.best_line = f"{name}: {_numbers(event.metrics, self.best.name)}"
        return is_best

    @property
    def total(self) -> int:
        """How many trials the phase has, as far as is known."""
        return max(self.done, self.phase.total) if self.phase is not None else self.done

    @property
    def seconds_left(self) -> float | None:
        """Estimated time until the last trial of the phase ends; None before there is a pace, or after it."""
        if self.phase is None or self._since is None:
            return None
        fresh, left = self.done - self.phase.done, self.total - self.done
        return None if fresh < _PACE or not left else (time.monotonic() - self._since) / fresh * left

    @property
    def standing(self) -> list[str]:
        """Lines about the best so far; about the finalists once they have fresh seeds."""
        return self._finalists or [f"best so far  {self.best_line}"]

    def _judged(self, space: SearchSpace) -> list[str]:
        """The finalist that leads, and why the one with the best mean does not."""
        explored, confirmed = self._records[Phase.EXPLORE], self._records[Phase.CONFIRM]
        finalists = judge_finalists(
            space, explored, confirmed, {r.origin for r in confirmed if r.origin is not None}
        )
        eligible = [finalist for finalist in finalists if is_eligible(space, finalist)]
        lines = []
        if eligible:
            leader = break_tie(space, eligible)
            name, sign = ranking(space.objective)
            mean = sign * leader.validation["objective"].mean
            lines.append(
                f"leading  {leader.explored.name}: mean {_LABELS.get(name, name)} {shown(name, mean)} over "
                f"{len(leader.judges)} fresh seeds"
            )
        refused = max(finalists, key=lambda finalist: finalist.mean, default=None)
        if refused is not None and not refused.feasible:
            reason = next(v.reason for v in verdicts(space, None, finalists) if v.finalist is refused)
            lines.append(f"refused  {refused.explored.name}: {reason}")
        return lines


def _numbers(metrics: Mapping[str, float], ranked_by: str) -> str:
    """The numbers of a trial, the one that it is ranked by first."""
    names = dict.fromkeys((ranked_by, *HEADLINE, "parameters"))
    return ", ".join(
        f"{shown(name, metrics[name])} {name}"
        if name in EXACT
        else f"{_LABELS.get(name, name)} {shown(name, metrics[name])}"
        for name in names
    )
