"""Setting right what needs no decision: MLflow is told again, and leftovers go."""

from __future__ import annotations

from aiq_search.app.doctor.study import leftovers, mismatches
from aiq_search.errors import AiqError
from aiq_search.study import Study
from aiq_search.study.ended import end_of

__all__ = ["fix_study"]

_SECONDS = 60.0


def fix_study(study: Study, tracking_uri: str | None = None) -> list[str]:
    """Cut a torn tail, remove leftovers, deliver what waits, close runs that nobody runs.

    Args:
        study: The study.
        tracking_uri: MLflow's store, by default the study's.

    Returns:
        What was done, a sentence each.

    Raises:
        StudyError: A driver holds the study.
    """
    with study.held():
        done = study.repair()
        records = study.records()
        left = leftovers(study, records)
        for path in left:
            path.unlink(missing_ok=True)
        if left:
            done.append(f"{len(left)} files that belonged to no trial were removed.")
        done.append(_tell_again(study, study.tracking_uri(tracking_uri)))
    return done


def _tell_again(study: Study, tracking_uri: str) -> str:
    """Give MLflow what it lacks, and let no run stay RUNNING."""
    from aiq_search.tracking import MlflowListener, reconcile
    from aiq_search.tracking.removal import runs_of

    records = study.records()
    try:
        wrong = mismatches(study, records, runs_of(study.id, study.space.name, tracking_uri), alive=False)
    except AiqError as error:
        return f"MLflow cannot be told: {error}"
    listener = MlflowListener(study.directory, tracking_uri)
    fresh = reconcile(study, listener)
    # What the outbox believes of these is wrong: their runs are looked for, and told everything, anew.
    listener.outbox.forget_runs({key for keys in wrong.values() for key in keys} - {study.id})
    listener.on_event(end_of(study))
    left = listener.close(_SECONDS)
    return f"MLflow was told again ({fresh} events were new to it). {left}"
