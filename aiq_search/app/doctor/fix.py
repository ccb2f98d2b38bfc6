"""Repairing what can be repaired safely: leftovers are removed, and MLflow receives what it lacks."""

from __future__ import annotations

from aiq_search.app.doctor.study import leftovers, mismatches
from aiq_search.errors import AiqError
from aiq_search.study import Study
from aiq_search.study.ended import end_of
from aiq_search.words import counted

__all__ = ["fix_study"]

_SECONDS = 60.0


def fix_study(study: Study, tracking_uri: str | None = None) -> list[str]:
    """Cut a torn journal, remove leftovers, deliver queued events, close runs that nothing is running.

    Args:
        study: The study.
        tracking_uri: MLflow's store, by default the study's.

    Returns:
        What was done, a sentence each.

    Raises:
        StudyError: A driver holds the study.
    """
    with study.held():
        repairs = study.repair()
        files = leftovers(study, study.records())
        for path in files:
            path.unlink(missing_ok=True)
        if files:
            repairs.append(f"Removed {counted(len(files), 'file')} that belonged to no trial.")
        repairs += _resend(study, study.tracking_uri(tracking_uri))
    return repairs


def _resend(study: Study, tracking_uri: str) -> list[str]:
    """Send MLflow what it lacks, and leave no run RUNNING."""
    from aiq_search.tracking import MlflowListener, reconcile
    from aiq_search.tracking.removal import runs_of

    records = study.records()
    try:
        wrong = mismatches(study, records, runs_of(study.id, study.space.name, tracking_uri), alive=False)
    except AiqError as error:
        return [f"Nothing was sent to MLflow: {error}"]
    listener = MlflowListener(study.directory, tracking_uri)
    damage = listener.outbox.damage
    repairs = [f"{damage}; it was made again from the study."] if damage else []
    fresh = reconcile(study, listener)
    removed = listener.outbox.discard_damaged()
    if removed:
        repairs.append(
            f"Removed damaged events that the study does not have ({', '.join(removed)}); if they were "
            f"files, aiq report {study.id} writes the report again."
        )
    # What the outbox assumes about these is wrong: their runs are looked up, and everything is sent, again.
    listener.outbox.forget_runs({key for keys in wrong.values() for key in keys} - {study.id})
    listener.on_event(end_of(study))
    left = listener.close(_SECONDS)
    sent = f"Sent the study to MLflow again; {counted(fresh, 'event')} had not been queued. {left}"
    return [*repairs, sent.rstrip()]
