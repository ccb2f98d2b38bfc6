"""Warm start: a new study that learns from earlier studies of the same space."""

from __future__ import annotations

import optuna

from aiq_search.errors import StudyError
from aiq_search.space import SearchSpace
from aiq_search.study.events import Phase
from aiq_search.study.record import BEGIN, TrialRecord
from aiq_search.study.study import Study

__all__ = ["check_same_question", "learn_from"]

# What two studies must agree in, for the trials of one to mean something in the other.
_SECTIONS = ("model", "dataset", "parameters", "objective", "training")


def check_same_question(space: SearchSpace, earlier: Study) -> None:
    """Raise StudyError unless an earlier study searched the same networks, data and objective."""
    ours, theirs = space.document(), earlier.space.document()
    differing = [section for section in _SECTIONS if ours[section] != theirs[section]]
    if differing:
        raise StudyError(
            f"--warm-start {earlier.id}: it asked another question; it differs in {', '.join(differing)}. "
            "Only a study of the same space can be learnt from."
        )


def learn_from(study: Study, earlier: Study) -> int:
    """Let a new study's sampler and pruner learn from an earlier study's finished trials.

    The trials are copied into the new study's storage, where they are marked: they take the first trial
    numbers, are no part of its budget, and are never its champion.

    Args:
        study: A study that has not begun.
        earlier: A study of the same space.

    Returns:
        Number of trials copied.

    Raises:
        StudyError: The studies asked different questions.
    """
    check_same_question(study.space, earlier)
    target = study.load(Phase.EXPLORE)
    copied = 0
    for trial in earlier.load(Phase.EXPLORE).get_trials(deepcopy=False):
        record = TrialRecord.from_optuna(earlier.id, Phase.EXPLORE, trial)
        if record is None or not record.finished or record.copied_from is not None or trial.values is None:
            continue
        target.add_trial(
            optuna.trial.create_trial(
                state=trial.state,
                values=trial.values,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=trial.intermediate_values,
                system_attrs=trial.system_attrs,  # constraints, and the pruner's rungs
                user_attrs={BEGIN: {"warm_start": earlier.id}},
            )
        )
        copied += 1
    return copied
