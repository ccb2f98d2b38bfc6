"""Optuna's pruners by name; our scheduler asks them."""

from __future__ import annotations

import copy
from typing import Any

import optuna
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial

from aiq_search.errors import InputError
from aiq_search.search.samplers import check_options
from aiq_search.space.schema import PrunerOptions

__all__ = ["create_pruner", "decide_again"]

_CLASSES: dict[str, tuple[type[BasePruner], dict[str, Any]]] = {
    # Early epochs rank well (Spearman .94 to .97 with the same seed), so the first rung is epoch 1.
    "asha": (optuna.pruners.SuccessiveHalvingPruner, {"min_resource": 1, "reduction_factor": 3}),
    "median": (optuna.pruners.MedianPruner, {}),
    "none": (optuna.pruners.NopPruner, {}),
}


def create_pruner(options: PrunerOptions) -> BasePruner:
    """The pruner that a space file names.

    Args:
        options: Name, and options of Optuna's class.

    Raises:
        InputError: An option that the class does not take, or refuses.
    """
    cls, defaults = _CLASSES[options.name]
    given = dict(options.model_extra or {})
    check_options("search.pruner", cls, given)
    try:
        return cls(**{**defaults, **given})
    except (TypeError, ValueError) as error:
        raise InputError(f"search.pruner: {error}") from None


def decide_again(pruner: BasePruner, study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether to prune a trial at its last epoch, where it is not known whether that was decided.

    Successive halving notes that a trial has reached a rung before it decides, and passes over a rung that
    is noted: it is asked as if the rung of this epoch had not been reached yet.
    """
    if not isinstance(pruner, SuccessiveHalvingPruner):
        return pruner.prune(study, trial)
    noted = {name for name in trial.system_attrs if name.startswith("completed_rung_")}
    last = f"completed_rung_{len(noted) - 1}"
    if noted and _epoch_of(pruner, len(noted) - 1) == trial.last_step:
        trial = copy.copy(trial)
        trial.system_attrs = {name: v for name, v in trial.system_attrs.items() if name != last}
    return pruner.prune(_Others(study, trial.number), trial)  # type: ignore[arg-type]


def _epoch_of(pruner: SuccessiveHalvingPruner, rung: int) -> int | None:
    first = pruner._min_resource
    return first and first * pruner._reduction_factor ** (pruner._min_early_stopping_rate + rung)


class _Others:
    """A study without one trial, as far as successive halving looks: it counts the trial itself."""

    def __init__(self, study: optuna.Study, number: int) -> None:
        self._study, self._number = study, number
        self._storage, self.direction = study._storage, study.direction

    def get_trials(self, deepcopy: bool = True) -> list[FrozenTrial]:
        return [t for t in self._study.get_trials(deepcopy=deepcopy) if t.number != self._number]
