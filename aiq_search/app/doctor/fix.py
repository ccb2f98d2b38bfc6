"""Setting right what needs no decision: MLflow is told again, and leftovers go."""

from __future__ import annotations

from aiq_search.app.doctor.study import leftovers, mismatches
from aiq_search.app.search import repaired
from aiq_search.app.store import tracking_uri_of
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
        done = repaired(study)
        records = study.records()
        left = leftovers(study, records)
        for path in left:
            path.unlink(missing_ok=True)
        if left:
            done.append(f"{len(left)} files that belonged to no trial were removed.")
        done += _send_again(study, tracking_uri_of(study, tracking_uri))
    return done


def _send_again(study: Study, tracking_uri: str) -> list[str]:
    """Give MLflow what it lacks, and let no run stay RUNNING."""
    from aiq_search.tracking import MlflowListener, reconcile
    from aiq_search.tracking.removal import runs_of

    records = study.records()
    try:
        wrong = mismatches(study, records, runs_of(study.id, study.space.name, tracking_uri), alive=False)
    except AiqError as error:
        return [f"Nothing can be sent to MLflow: {error}"]
    listener = MlflowListener(study.directory, tracking_uri)
    done = []
    if listener.outbox.damage:
        done.append(f"{listener.outbox.damage}; it was made again from the study.")
    sent = reconcile(study, listener)
    dropped = listener.outbox.discard_damaged()
    if dropped:
        done.append(
            f"Damaged events that the study does not have were removed ({', '.join(dropped)}); if they were "
            f"files, aiq report {study.id} writes the report again."
        )
    # What the outbox believes of these is wrong: their runs are looked for, and sent everything, again.
    listener.outbox.forget_runs({key for keys in wrong.values() for key in keys} - {study.id})
    listener.on_event(end_of(study))
    left = listener.close(_SECONDS)
    return [*done, f"MLflow was sent {sent} events that it lacked. {left}"]
