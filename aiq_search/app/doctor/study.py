"""A study's files, trials and runs: what is left over, and where MLflow disagrees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.app.doctor.finding import Finding, Level
from aiq_search.errors import AiqError, StudyError
from aiq_search.places import Place
from aiq_search.study import Study, TrialRecord, TrialState
from aiq_search.study.time_spent import time_spent
from aiq_search.tracking.layout import ENDS
from aiq_search.tracking.outbox import FILE as OUTBOX
from aiq_search.words import counted

if TYPE_CHECKING:
    from aiq_search.tracking.removal import StudyRun

__all__ = ["check_files", "check_runs", "check_states", "check_time", "leftovers", "mismatches"]

# How MLflow must show a trial's state.
_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def check_states(study: Study, records: list[TrialRecord]) -> Iterator[Finding]:
    """Check the states of the trials."""
    counts = Counter(str(record.state) for record in records)
    summary = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no trial yet"
    yield _finding(Level.OK, f"{summary}.")
    if study.is_running:
        yield _finding(Level.NOTE, "A search is running this study; these findings may change.")
        return
    if counts["RUNNING"]:
        yield _finding(
            Level.WARNING,
            f"{counted(counts['RUNNING'], 'trial', 'were')} interrupted.",
            f"Continue from the checkpoints: aiq resume {study.id}",
        )
    elif study.document.ended != "finished":
        yield _finding(Level.NOTE, "It is not finished.", f"Continue it: aiq resume {study.id}")
    failed = study.failed()
    if failed:
        reason, often = Counter(record.reason or "no reason" for record in failed).most_common(1)[0]
        yield _finding(
            Level.WARNING,
            f"{counted(len(failed), 'trial')} failed, {often} of them with: {reason}",
            f"Fix the cause, then run: aiq retry {study.id}",
        )


def check_time(study: Study, records: list[TrialRecord]) -> Iterator[Finding]:
    """Show where the time of the search went."""
    spent = time_spent(study.document, records)
    if spent is not None:
        yield _finding(Level.OK, str(spent))


def check_files(study: Study, records: list[TrialRecord]) -> Iterator[Finding]:
    """Check the end of the journal, and for files that belong to no trial."""
    if not study.document.trials_url and _is_torn(study.journal) and not study.is_running:
        yield _finding(
            Level.WARNING,
            "The journal ends in an unfinished line, left by a crash.",
            "Nothing is lost: the next start removes it, and so does --fix.",
            fixable=True,
        )
    left = [] if study.is_running else leftovers(study, records)
    if left:
        size = sum(path.size() for path in left)
        yield _finding(
            Level.NOTE,
            f"{counted(len(left), 'file', 'belong')} to no trial ({size / 1e6:.1f} MB in "
            f"{study.checkpoints}).",
            "--fix removes what belongs to no trial.",
            fixable=True,
        )


def leftovers(study: Study, records: list[TrialRecord]) -> list[Place]:
    """Half-written files and checkpoints of trials that have ended."""
    running = {study.checkpoint_path(r.key) for r in records if r.state is TrialState.RUNNING}
    left = set(study.leftovers())
    left.update(study.checkpoints.glob("*.unfinished.safetensors"))
    return sorted(left - running, key=str)


def check_runs(
    study: Study, records: list[TrialRecord], tracking_uri: str | None = None
) -> Iterator[Finding]:
    """Compare MLflow with the study: each trial has one run, in the same state."""
    yield from _outbox(study)
    from aiq_search.tracking.removal import runs_of

    try:
        runs = runs_of(study.id, study.space.name, study.tracking_uri(tracking_uri))
    except AiqError as error:
        yield _finding(
            Level.WARNING,
            f"MLflow cannot be compared: {error}",
            "Start it, or name another store with --tracking-uri.",
        )
        return
    alive = study.is_running
    wrong = mismatches(study, records, runs, alive=alive)
    for what, keys in wrong.items():
        if keys:
            shown = ", ".join(key.removeprefix(f"{study.id}/") for key in keys[:5])
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            remedy = "Check again in a moment." if alive else "--fix sends the study to MLflow again."
            yield _finding(Level.WARNING, f"{what} ({len(keys)}): {shown}{more}.", remedy, fixable=not alive)
    strange = {run.owner for run in runs} - {study.id, *(str(record.key) for record in records)}
    if strange and not alive:
        yield _finding(
            Level.WARNING,
            f"MLflow has runs that belong to no trial of the study: {', '.join(sorted(strange)[:5])}.",
            "The study's storage has lost trials, or tags were changed: check these runs, and delete them in "
            "MLflow if they are not needed.",
        )
    elif not any(wrong.values()):
        yield _finding(Level.OK, f"MLflow agrees: {counted(len(runs), 'run')}.")


def mismatches(
    study: Study, records: Sequence[TrialRecord], runs: Sequence[StudyRun], *, alive: bool
) -> dict[str, list[str]]:
    """Where MLflow and a study differ: what is wrong, and the keys of the trials it is wrong for.

    Args:
        study: The study.
        records: Its trials.
        runs: Its runs in MLflow.
        alive: Whether a driver runs it, so that RUNNING is correct.
    """
    by_owner: dict[str, list[str]] = {}
    for run in runs:
        by_owner.setdefault(run.owner, []).append(run.status)
    states = {str(record.key): str(record.state) for record in records}
    # The study's own run must be there too, with the way it ended.
    expected = {key: _STATUS[state] for key, state in states.items() if state in _STATUS}
    if study.document.ended in ENDS and not alive:
        expected[study.id] = ENDS[study.document.ended]
    return {
        "Missing from MLflow": [key for key in (study.id, *states) if key not in by_owner],
        "In MLflow more than once": [key for key, statuses in by_owner.items() if len(statuses) > 1],
        "In another state in MLflow": [
            key for key, status in expected.items() if key in by_owner and status not in by_owner[key]
        ],
        "RUNNING in MLflow, but in no search": [
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
            Level.WARNING,
            "It has no outbox: nothing has been sent to MLflow.",
            "--fix sends it.",
            fixable=True,
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
        yield _finding(
            Level.WARNING, str(left), "--fix delivers the queued events.", fixable=not study.is_running
        )
    elif left.refused:
        yield _finding(Level.WARNING, str(left), f"The study itself is complete: aiq trials {study.id}")


def _is_torn(journal: Path) -> bool:
    with journal.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _finding(level: Level, what: str, remedy: str = "", *, fixable: bool = False) -> Finding:
    return Finding("study", level, what, remedy, fixable)
