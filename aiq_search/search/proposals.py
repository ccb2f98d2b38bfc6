"""Proposed configurations: queued ones first, then the sampler's, except those that the space forbids.

Confirmations on fresh seeds are queued here, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from aiq_search.space import SearchSpace, SpaceError
from aiq_search.space.points import grid
from aiq_search.study.asking import AskingStudy
from aiq_search.study.record import BEGIN, REPLICATE, TrialRecord, config_hash
from aiq_search.study.seeds import derive_seed

__all__ = ["Proposals", "enqueue_confirmations", "retries_of"]

# How many proposals in a row may break the constraints on parameters before the space is at fault.
_MAX_REFUSED = 1000


class Proposals:
    """Draws the configurations of a study's exploring trials.

    Args:
        space: The space.
        study: The Optuna study of the exploring trials.

    Attributes:
        retries: Failed trials that wait to be run again; they are no part of the budget.
    """

    def __init__(self, space: SearchSpace, study: AskingStudy) -> None:
        self._space = space
        self._study = study
        self._drawn: deque[tuple[optuna.Trial, dict[str, Any]]] = deque()
        self.retries = 0

    @property
    def owed(self) -> bool:
        """Whether a trial that there is already waits to be begun, whatever the budget says."""
        return self.retries > 0 or bool(self._drawn)

    def take_up(self, budget: int) -> int:
        """Bring the queue to its proper state, whatever happened to an earlier driver.

        Args:
            budget: How many trials there may be.

        Returns:
            The budget, or the number of a grid's cells and queued points, each on its seeds, where that is
            smaller.
        """
        waiting = self._study.get_trials(deepcopy=False, states=(OptunaState.WAITING,))
        self.retries = sum(BEGIN in trial.user_attrs for trial in waiting)
        on_grid = self._space.search.sampler.name == "grid"
        cells = islice(grid(self._space), budget) if on_grid else ()
        points = {config_hash(point): dict(point) for point in (*self._space.enqueue, *cells)}
        seeds = range(self._space.search.replicates)
        trials = [(point, seed) for point in points.values() for seed in seeds]  # a cell's seeds together
        there = sum(
            "fixed_params" in trial.system_attrs
            and not {"retry_of", "warm_start"} & trial.user_attrs.get(BEGIN, {}).keys()
            for trial in self._study.get_trials(deepcopy=False)
        )
        for point, seed in trials[there:budget]:
            attributes = {REPLICATE: seed} if len(seeds) > 1 else None
            self._study.enqueue_trial(self._space.encode(point), user_attrs=attributes)
        return min(budget, len(trials)) if on_grid else budget

    def finish_asking(self) -> None:
        """Draw the configurations of trials that an earlier driver asked for and did not begin.

        Nothing has ended since it died, so the sampler draws what it would have drawn.
        """
        for frozen in self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
            if BEGIN not in frozen.user_attrs:
                trial = self._study.running(frozen.number)
                self._skip_draws(trial, frozen)
                params = self._space.suggest(trial)
                if self._space.allows(params):
                    self.put_back(trial, self._begin_of(trial, params))
                else:
                    self._refuse(trial)

    def _skip_draws(self, trial: optuna.Trial, frozen: FrozenTrial) -> None:
        """Bring the sampler's randomness to where it stood after the parameters that a trial has."""
        fixed = frozen.system_attrs.get("fixed_params", {})
        for name, distribution in frozen.distributions.items():
            if not (distribution.single() or name in fixed or name in trial.relative_params):
                self._study.sampler.sample_independent(self._study, frozen, name, distribution)

    def put_back(self, trial: optuna.Trial, begin: dict[str, Any]) -> None:
        """Let a trial that was drawn, and not begun, be drawn again before all others."""
        self._drawn.append((trial, begin))

    def draw(self) -> tuple[optuna.Trial, dict[str, Any]]:
        """Ask for a configuration until the space allows it.

        Returns:
            The trial, and what is to be kept of its beginning; one that is run again has that already.

        Raises:
            SpaceError: Nothing that is drawn meets the constraints on parameters.
        """
        if self._drawn:
            return self._drawn.popleft()
        for _ in range(_MAX_REFUSED):
            trial = self._study.ask()
            params = self._space.suggest(trial)
            if BEGIN in trial.user_attrs:  # a failed trial that is run again
                self.retries -= 1
                return trial, trial.user_attrs[BEGIN]
            if self._space.allows(params):
                return trial, self._begin_of(trial, params)
            self._refuse(trial)
        raise SpaceError(
            f"objective.constraints: {_MAX_REFUSED} configurations in a row broke a constraint on "
            "parameters; are the ranges and the constraints compatible?"
        )

    def _begin_of(self, trial: optuna.Trial, params: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of a trial from its beginning."""
        begin = {"params": params, "config_hash": config_hash(params)}
        replicate, seed = trial.user_attrs.get(REPLICATE), self._space.search.seed
        if replicate is None:
            return {**begin, "seed": derive_seed(seed, "explore", trial.number)}
        # The same seeds for every cell: they then differ in their configuration alone.
        return {**begin, "seed": derive_seed(seed, "replicate", replicate), "replicate": replicate}

    def _refuse(self, trial: optuna.Trial) -> None:
        """Put away a configuration that breaks a constraint on parameters."""
        trial.set_user_attr(BEGIN, {"refused": True})
        self._study.tell(trial, state=OptunaState.FAIL)


def enqueue_confirmations(
    study: optuna.Study,
    space: SearchSpace,
    explored: Mapping[int, TrialRecord],
    wanted: Sequence[tuple[int, int]],
) -> int:
    """Queue the wanted confirmations that are not there yet.

    Args:
        study: The confirming Optuna study.
        space: The space.
        explored: Exploring trials by number.
        wanted: Pairs of an exploring trial's number and a replicate.

    Returns:
        How many confirmations now wait.
    """
    trials = study.get_trials(deepcopy=False)
    there = {(t.user_attrs[BEGIN]["origin"], t.user_attrs[BEGIN]["replicate"]) for t in trials}
    for origin, replicate in wanted:
        if (origin, replicate) in there:
            continue
        record = explored[origin]
        begin = {
            "params": dict(record.params),
            # The same seeds for every finalist: they then differ in their configuration alone.
            "seed": derive_seed(space.search.seed, "confirm", replicate),
            "config_hash": record.config_hash,
            "origin": origin,
            "replicate": replicate,
        }
        study.enqueue_trial(space.encode(record.params), user_attrs={BEGIN: begin})
    return sum(t.state is OptunaState.WAITING for t in study.get_trials(deepcopy=False))


def retries_of(study: optuna.Study) -> int:
    """How many trials run failed ones of their phase again."""
    trials = study.get_trials(deepcopy=False)
    return sum("retry_of" in trial.user_attrs.get(BEGIN, {}) for trial in trials)
