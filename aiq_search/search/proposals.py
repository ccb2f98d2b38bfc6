"""Which configurations are tried: queued ones first, then the sampler's, none that the space forbids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from aiq_search.search.asking import AskingStudy
from aiq_search.search.record import BEGIN, config_hash
from aiq_search.search.seeds import derive_seed
from aiq_search.space import SearchSpace, SpaceError
from aiq_search.space.check import grid

__all__ = ["Proposals"]

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
        self.retries = 0

    def take_up(self, budget: int) -> int:
        """Bring the queue to where it should stand, whatever happened to the driver before.

        Args:
            budget: How many configurations may be tried.

        Returns:
            The budget, or the number of a grid's cells where that is smaller.
        """
        waiting = self._study.get_trials(deepcopy=False, states=(OptunaState.WAITING,))
        self.retries = sum(BEGIN in trial.user_attrs for trial in waiting)
        cells = list(grid(self._space)) if self._space.search.sampler.name == "grid" else []
        points = {config_hash(point): dict(point) for point in (*self._space.enqueue, *cells)}
        there = sum(
            "fixed_params" in trial.system_attrs
            and not {"retry_of", "warm_start"} & trial.user_attrs.get(BEGIN, {}).keys()
            for trial in self._study.get_trials(deepcopy=False)
        )
        for point in list(points.values())[there:budget]:
            self._study.enqueue_trial(self._space.encode(point))
        return min(budget, len(cells)) if cells else budget

    def finish_asking(self) -> None:
        """Draw the configurations of trials whose driver died while it asked for them.

        Nothing has ended since, so the sampler draws what it would have drawn.
        """
        for frozen in self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
            if BEGIN not in frozen.user_attrs:
                trial = self._study.running(frozen.number)
                params = self._space.suggest(trial)
                if self._space.allows(params):
                    trial.set_user_attr(BEGIN, self._begin_of(trial, params))
                else:
                    self._refuse(trial)

    def draw(self) -> tuple[optuna.Trial, dict[str, Any]]:
        """Ask for a configuration until the space allows it.

        Returns:
            The trial, and what is to be kept of its beginning; one that is run again has that already.

        Raises:
            SpaceError: Nothing that is drawn meets the constraints on parameters.
        """
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
        return {
            "params": params,
            "seed": derive_seed(self._space.search.seed, "explore", trial.number),
            "config_hash": config_hash(params),
        }

    def _refuse(self, trial: optuna.Trial) -> None:
        """Put away a configuration that breaks a constraint on parameters."""
        trial.set_user_attr(BEGIN, {"refused": True})
        self._study.tell(trial, state=OptunaState.FAIL)
