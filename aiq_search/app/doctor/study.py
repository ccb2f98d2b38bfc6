"""A study's files, trials and runs: what is left over, and where MLflow says something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.app.doctor.finding import Finding, Level
from aiq_search.app.retry import failed_trials
from aiq_search.app.store import tracking_uri_of
from aiq_search.errors import AiqError, StudyError
from aiq_search.files import Place, size_of
from aiq_search.study import Study, TrialRecord, TrialState
from aiq_search.study.leftovers import half_written
from aiq_search.tracking.layout import ENDS
from aiq_search.tracking.outbox import FILE as OUTBOX

if TYPE_CHECKING:
    from aiq_search.tracking.removal import StudyRun

__all__ = ["check_files", "check_runs", "check_states", "leftovers", "mismatches"]

# How MLflow must show a trial's state.
_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def check_states(study: Study, records: list[TrialRecord]) -> Iterator[Finding]:
    """Look at where the trials stand."""
    counts = Counter(str(record.state) for record in records)
    said = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no trial yet"
    yield _finding(Level.OK, f"{said}.")
    if study.is_running:
        yield _finding(Level.NOTE, "A driver runs it now; what follows is a look at a moving thing.")
        return
    if counts["RUNNING"]:
        yield _finding(
            Level.WARNING,
            f"{counts['RUNNING']} trials were interrupted.",
            f"aiq resume {study.id} continues them from their checkpoints.",
        )
    elif study.document.get("ended") != "finished":
        yield _finding(Level.NOTE, "It is not finished.", f"aiq resume {study.id}")
    failed = failed_trials(study)
    if failed:
        reason, often = Counter(record.reason or "no reason" for record in failed).most_common(1)[0]
        yield _finding(
            Level.WARNING,
            f"{len(failed)} trials failed, {often} of them with: {reason}",
            f"Mend the reason, then: aiq retry {study.id}",
        )


def check_files(study: Study, records: list[TrialRecord]) -> Iterator[Finding]:
    """Look at the journal's end and at files that belong to nothing."""
    if not study.document.get("storage") and _is_torn(study.journal) and not study.is_running:
        yield _finding(
            Level.WARNING,
            "The journal ends in an unfinished line, which a crash left.",
            "Nothing is lost: the next start cuts it, as --fix does.",
            fixable=True,
        )
    left = [] if study.is_running else leftovers(study, records)
    if left:
        size = sum(size_of(path) for path in left)
        yield _finding(
            Level.NOTE,
            f"{len(left)} files ({size / 1e6:.1f} MB) in {study.checkpoints} belong to no trial.",
            "--fix removes them.",
            fixable=True,
        )


def leftovers(study: Study, records: list[TrialRecord]) -> list[Place]:
    """Half-written files and checkpoints of trials that have ended."""
    running = {study.checkpoint_path(r.key) for r in records if r.state is TrialState.RUNNING}
    left = set(half_written(study))
    left.update(study.checkpoints.glob("*.unfinished.safetensors"))
    return sorted(left - running, key=str)


def check_runs(
    study: Study, records: list[TrialRecord], tracking_uri: str | None = None
) -> Iterator[Finding]:
    """Compare MLflow with the study: each trial has one run, and both say the same of its state."""
    yield from _outbox(study)
    from aiq_search.tracking.removal import runs_of

    try:
        runs = runs_of(study.id, study.space.name, tracking_uri_of(study, tracking_uri))
    except AiqError as error:
        yield _finding(
            Level.WARNING, f"MLflow cannot be compared: {error}", "Start it, or give --tracking-uri."
        )
        return
    alive = study.is_running
    found = mismatches(study, records, runs, alive=alive)
    for what, keys in found.items():
        if keys:
            shown = ", ".join(key.removeprefix(f"{study.id}/") for key in keys[:5])
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            remedy = "Look again in a moment." if alive else "--fix tells MLflow again what the study knows."
            yield _finding(Level.WARNING, f"{len(keys)} {what}: {shown}{more}.", remedy, fixable=not alive)
    strange = {run.owner for run in runs} - {study.id, *(str(record.key) for record in records)}
    if strange and not alive:
        yield _finding(
            Level.WARNING,
            f"MLflow has runs that no trial of the study has: {', '.join(sorted(strange)[:5])}.",
            "The study's storage lost trials, or someone changed tags: look at these runs, and delete them "
            "in MLflow if nobody needs them.",
        )
    elif not any(found.values()):
        yield _finding(Level.OK, f"MLflow agrees: {len(runs)} runs.")


def mismatches(
    study: Study, records: Sequence[TrialRecord], runs: Sequence[StudyRun], *, alive: bool
) -> dict[str, list[str]]:
    """Where MLflow and a study differ: what is wrong, and the keys that it is wrong with.

    Args:
        study: The study.
        records: Its trials.
        runs: Its runs in MLflow.
        alive: Whether a driver runs it, so that RUNNING is right.
    """
    by_owner: dict[str, list[str]] = {}
    for run in runs:
        by_owner.setdefault(run.owner, []).append(run.status)
    states = {str(record.key): str(record.state) for record in records}
    # The study's own run is one of those that must be there, and say how it ended.
    expected = {key: _STATUS[state] for key, state in states.items() if state in _STATUS}
    if study.document.get("ended") in ENDS and not alive:
        expected[study.id] = ENDS[study.document["ended"]]
    return {
        "have no run in MLflow": [key for key in (study.id, *states) if key not in by_owner],
        "have more than one run in MLflow": [key for key, statuses in by_owner.items() if len(statuses) > 1],
        "have a run in MLflow that says something else": [
            key for key, status in expected.items() if key in by_owner and status not in by_owner[key]
        ],
        "are RUNNING in MLflow, but no driver runs them": [
            key
            for key, statuses in by_owner.items()
            if "RUNNING" in statuses and key not in expected and not alive
        ],
    }


def _outbox(study: Study) -> Iterator[Finding]:
    from aiq_search.tracking import Outbox
    from aiq_search.tracking.outbox import OutboxDamagedError

    if not (study.directory / OUTBOX).is_file():
        yield _finding(
            Level.WARNING, "It has no outbox: MLflow was never told.", "--fix tells it.", fixable=True
        )
        return
    try:
        box = Outbox(study.directory)
    except OutboxDamagedError as error:
        remedy = "Nothing is lost: --fix makes it again from the study, as the next aiq resume does."
        yield _finding(Level.PROBLEM, f"{error}.", remedy, fixable=not study.is_running)
        return
    except StudyError as error:
        yield _finding(Level.PROBLEM, str(error))
        return
    try:
        left = box.undelivered()
    finally:
        box.close()
    if left.aside:
        yield _finding(
            Level.PROBLEM,
            str(left),
            "--fix has the study send it again; what a later version of aiq-search wrote needs that version.",
            fixable=not study.is_running,
        )
    elif left.waiting:
        yield _finding(Level.WARNING, str(left), "--fix delivers what waits.", fixable=not study.is_running)
    elif left.refused:
        yield _finding(Level.WARNING, str(left), "The study itself has everything: aiq trials shows it.")


def _is_torn(journal: Path) -> bool:
    with journal.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _finding(level: Level, what: str, remedy: str = "", *, fixable: bool = False) -> Finding:
    return Finding("study", level, what, remedy, fixable)
