"""Pruners by name, and the decisions of Optuna's."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from aiq_search.errors import InputError
from aiq_search.search.pareto_pruner import ParetoPruner
from aiq_search.search.samplers import check_options
from aiq_search.space.options import PrunerOptions
from aiq_search.study.asking import AskingStudy
from aiq_search.study.optuna_internals import trial_id_of

__all__ = ["count_as_stopped", "create_pruner", "decide_again"]

_CLASSES: dict[str, tuple[type[BasePruner], dict[str, Any]]] = {
    # Early epochs rank well (Spearman .94 to .97 with the same seed), so the first rung is epoch 1.
    "asha": (optuna.pruners.SuccessiveHalvingPruner, {"min_resource": 1, "reduction_factor": 3}),
    "median": (optuna.pruners.MedianPruner, {}),
    "pareto": (ParetoPruner, {}),
    "none": (optuna.pruners.NopPruner, {}),
}

# Where successive halving writes down that a trial has reached a rung: this and the rung's number.
_RUNG = "completed_rung_"


def create_pruner(options: PrunerOptions) -> BasePruner:
    """The pruner that a space file names.

    Args:
        options: Name, and options of its class.

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


def count_as_stopped(study: AskingStudy, trial: optuna.Trial, value: float) -> None:
    """Have a trial that is stopped within its first epoch count among those that were compared after it.

    Step 0 makes it the least of the pruned trials for the sampler. Successive halving, which lets a share of
    all that came to a rung pass, would otherwise stop the same share of the survivors once more.

    Args:
        study: The exploring trials.
        trial: The one that is stopped, in training.
        value: The objective that it had.
    """
    trial.report(value, 0)
    if isinstance(study.pruner, optuna.pruners.SuccessiveHalvingPruner):
        study.storage.set_trial_system_attr(trial_id_of(trial), f"{_RUNG}0", value)


def decide_again(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether to prune a trial at its last epoch, where it is not known whether that was decided.

    Successive halving writes down that a trial has reached a rung before it decides, and passes over a rung
    that is written down. There the trial is reported again to a copy of the study, where it has reached none.

    Args:
        study: The exploring trials.
        trial: One of them, in training.
    """
    values = trial.intermediate_values
    rungs = [name for name in trial.system_attrs if name.startswith(_RUNG)]
    last = f"{_RUNG}{len(rungs) - 1}"
    prune = study.pruner.prune(study, trial)
    if prune or trial.system_attrs.get(last) != values[max(values)]:
        return prune
    others = (each for each in study.get_trials(deepcopy=False) if each.number != trial.number)
    copy = optuna.create_study(
        direction=study.direction, sampler=optuna.samplers.RandomSampler(0), pruner=study.pruner
    )
    copy.add_trials(each for each in others if last in each.system_attrs)
    again = copy.ask()
    for epoch in sorted(values):
        again.report(values[epoch], epoch)
        prune = again.should_prune()
    return prune
