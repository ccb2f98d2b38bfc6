"""Which networks' weights a study keeps: those of the best, and what unfinished trials need."""

from __future__ import annotations

from collections.abc import Iterable

from aiq_search.search.champion import rank_key
from aiq_search.search.events import TrialKey, TrialState
from aiq_search.search.record import TrialRecord
from aiq_search.search.study import Study

__all__ = ["delete_the_rest", "worth_keeping"]

# Exploring trials whose weights are kept, at least.
_BEST = 5


def worth_keeping(
    study: Study, explored: Iterable[TrialRecord], confirmed: Iterable[TrialRecord]
) -> list[TrialRecord]:
    """The best exploring trials, and of each finalist the best seed.

    Args:
        study: The study.
        explored: Finished exploring trials.
        confirmed: Finished confirmations.
    """
    objective = study.space.objective
    complete = [r for r in explored if r.state is TrialState.COMPLETE and r.copied_from is None]
    ranked = sorted(complete, key=lambda record: rank_key(objective, record))
    best_seed: dict[int | None, TrialRecord] = {}
    for record in confirmed:
        best = best_seed.get(record.origin)
        if record.state is TrialState.COMPLETE and (
            best is None or record.scored["aiq"] > best.scored["aiq"]
        ):
            best_seed[record.origin] = record
    return ranked[: max(_BEST, study.space.confirm.finalists)] + list(best_seed.values())


def delete_the_rest(study: Study, kept: Iterable[TrialRecord], unfinished: Iterable[TrialKey]) -> None:
    """Delete every file of weights but those of ``kept`` and ``unfinished`` trials."""
    names = {study.weights_path(record.key) for record in kept}
    for key in unfinished:
        names |= {study.weights_path(key), study.checkpoint_path(key)}
    for path in study.checkpoints.glob("*.safetensors"):
        if path not in names:
            path.unlink(missing_ok=True)
