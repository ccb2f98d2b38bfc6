"""Which networks' weights a study keeps: those of the best, and what unfinished trials need."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

from aiq_search.study.champion import Champion, judge_cell, rank_key
from aiq_search.study.events import Phase, TrialKey, TrialState
from aiq_search.study.record import TrialRecord, without_retried
from aiq_search.study.study import Study

__all__ = ["Retention"]

# Exploring trials, or cells of a grid, whose weights are kept, at least.
_BEST = 5


class Retention:
    """Keeps the weights of the best exploring trials, and of each finalist's best seed.

    Of a grid with replicates, it keeps the best seed of the best cells, and of those that are not complete.
    With ``search.weights: all``, it keeps those of every trial that is complete.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._objective = study.space.objective
        self._all = study.space.search.weights == "all"
        self._count = max(_BEST, study.space.confirm.finalists or 0)
        self._best: list[TrialRecord] = []  # the best first
        self._best_seed: dict[int | str | None, TrialRecord] = {}  # of a finalist, or of a cell
        self._cells: dict[str, list[TrialRecord]] = defaultdict(list)
        self._best_cells: list[Champion] = []

    def add(self, record: TrialRecord) -> list[TrialRecord]:
        """Take note of a finished trial.

        Returns:
            The trials, this one or earlier ones, whose weights are not worth keeping from now on.
        """
        replicates = self._study.space.search.replicates
        if self._all:
            return [] if record.state is TrialState.COMPLETE else [record]
        if record.key.phase is Phase.EXPLORE and replicates > 1:
            return self._add_to_cell(record, replicates)
        if record.state is not TrialState.COMPLETE or record.copied_from is not None:
            return [record]
        if record.key.phase is Phase.REFERENCE:
            return [record]  # its numbers are what it was trained for
        if record.key.phase is Phase.CONFIRM:
            return self._keep_better(record.origin, record)
        bisect.insort(self._best, record, key=lambda each: rank_key(self._objective, each))
        return [self._best.pop()] if len(self._best) > self._count else []

    def _keep_better(self, owner: int | str | None, record: TrialRecord) -> list[TrialRecord]:
        """Keep the better of a seed and the best before it; returns the other."""
        best = self._best_seed.get(owner)
        if best is not None and record.scored["aiq"] <= best.scored["aiq"]:
            return [record]
        self._best_seed[owner] = record
        return [] if best is None else [best]

    def _add_to_cell(self, record: TrialRecord, replicates: int) -> list[TrialRecord]:
        cell = self._cells[record.config_hash]
        cell.append(record)
        complete = record.state is TrialState.COMPLETE
        superfluous = self._keep_better(record.config_hash, record) if complete else [record]
        if len(without_retried(cell)) < replicates:
            return superfluous
        judged = judge_cell(self._study.space, self._cells.pop(record.config_hash))
        kept = self._best_seed.pop(record.config_hash, None)
        if judged is None:
            return [*superfluous, *([] if kept is None else [kept])]
        bisect.insort(self._best_cells, judged, key=lambda each: (not each.feasible, -each.mean, each.trial))
        return superfluous + ([self._best_cells.pop().record] if len(self._best_cells) > self._count else [])

    def tidy(self, ended: TrialRecord) -> None:
        """Take note of a trial that has just ended, and delete the files that it makes superfluous."""
        self._study.checkpoint_path(ended.key).discard()
        for superfluous in self.add(ended):
            self._study.weights_path(superfluous.key).discard()

    def sweep(self, unfinished: Iterable[TrialKey]) -> None:
        """Delete every file of weights but those that are kept and those of unfinished trials."""
        if self._all:
            return
        kept = [*self._best, *self._best_seed.values(), *(cell.record for cell in self._best_cells)]
        names = {self._study.weights_path(record.key) for record in kept}
        for key in unfinished:
            names |= {self._study.weights_path(key), self._study.checkpoint_path(key)}
        with suppress(OSError):  # a store that is away is swept another time
            for path in self._study.checkpoints.glob("*.safetensors"):
                if path not in names:
                    path.discard()
