"""Finalists trained again on fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import TrialState as OptunaState

from aiq_search.space import SearchSpace
from aiq_search.study.record import BEGIN, TrialRecord
from aiq_search.study.seeds import derive_seed

__all__ = ["enqueue_confirmations"]


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
