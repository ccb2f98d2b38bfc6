"""Which networks' weights a study keeps: those of the best, and what unfinished trials need."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from contextlib import suppress

from aiq_search.study.champion import rank_key
from aiq_search.study.events import Phase, TrialKey, TrialState
from aiq_search.study.record import TrialRecord
from aiq_search.study.study import Study

__all__ = ["Retention"]

# Exploring trials whose weights are kept, at least.
_BEST = 5


class Retention:
    """Keeps the weights of the best exploring trials, and of each finalist's best seed.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._objective = study.space.objective
        self._count = max(_BEST, study.space.confirm.finalists or 0)
        self._best: list[TrialRecord] = []  # the best first
        self._best_seed: dict[int | None, TrialRecord] = {}

    def add(self, record: TrialRecord) -> TrialRecord | None:
        """Take note of a finished trial.

        Returns:
            The trial, this one or an earlier, whose weights are not worth keeping from now on.
        """
        if record.state is not TrialState.COMPLETE or record.copied_from is not None:
            return record
        if record.key.phase is Phase.REFERENCE:
            return record  # its numbers are what it was trained for
        if record.key.phase is Phase.CONFIRM:
            best = self._best_seed.get(record.origin)
            if best is not None and record.scored["aiq"] <= best.scored["aiq"]:
                return record
            self._best_seed[record.origin] = record
            return best
        bisect.insort(self._best, record, key=lambda each: rank_key(self._objective, each))
        return self._best.pop() if len(self._best) > self._count else None

    def tidy(self, ended: TrialRecord) -> None:
        """Take note of a trial that has just ended, and delete the files that it makes superfluous."""
        self._study.checkpoint_path(ended.key).discard()
        superfluous = self.add(ended)
        if superfluous is not None:
            self._study.weights_path(superfluous.key).discard()

    def sweep(self, unfinished: Iterable[TrialKey]) -> None:
        """Delete every file of weights but those that are kept and those of unfinished trials."""
        kept = [*self._best, *self._best_seed.values()]
        names = {self._study.weights_path(record.key) for record in kept}
        for key in unfinished:
            names |= {self._study.weights_path(key), self._study.checkpoint_path(key)}
        with suppress(OSError):  # a store that is away is swept another time
            for path in self._study.checkpoints.glob("*.safetensors"):
                if path not in names:
                    path.discard()
