"""The outbox of a study: events that wait for MLflow, and which run belongs to which trial.

One SQLite file in the study's folder. The driver appends events, the delivery process takes them out
and remembers run ids; both survive any death of either. Every event has an identity of its own
(``event_id``), so that telling it again changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from aiq_search.redaction import redact, redacted
from aiq_search.study.events import (
    EpochEnded,
    Event,
    Phase,
    PhaseStarted,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialKey,
    TrialStarted,
    TrialState,
)

__all__ = [
    "REGISTERED",
    "ChampionExported",
    "FilesWritten",
    "Letter",
    "Outbox",
    "Undelivered",
    "event_id",
    "owner_of",
]

FILE = "outbox.sqlite"
REGISTERED = "registered"  # the fact that says what became of the champion in the registry

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,            -- trial key, or the study's id
    kind TEXT NOT NULL,
    time REAL NOT NULL,
    payload TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,  -- 0 waits, 1 delivered, 2 refused by MLflow
    error TEXT
);
CREATE INDEX IF NOT EXISTS waiting ON events (row) WHERE state = 0;
CREATE INDEX IF NOT EXISTS were_refused ON events (row) WHERE state = 2;
-- With the kind in it: for "this owner, this kind" SQLite would else read every event of the kind.
CREATE INDEX IF NOT EXISTS by_owner ON events (owner, kind, row);
CREATE INDEX IF NOT EXISTS by_kind ON events (kind, row, owner);
CREATE TABLE IF NOT EXISTS runs (owner TEXT PRIMARY KEY, run_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class FilesWritten:
    """A folder is to be kept with the study's run: its report, its pictures. Not search's event but ours."""

    study: str
    folder: str
    time: float


@dataclass(frozen=True)
class ChampionExported:
    """The champion lies in ``folder`` as a bundle, and is to be registered as a model; ours too.

    ``champion`` is the document of ``aiq best --format json``.
    """

    study: str
    folder: str
    champion: Mapping[str, Any]
    time: float


Happening: TypeAlias = Event | FilesWritten | ChampionExported
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(StudyStarted, PhaseStarted, TrialStarted, EpochEnded, TrialEnded, StudyEnded),
        *(FilesWritten, ChampionExported),
    )
}


@dataclass(frozen=True)
class Letter:
    """One waiting event: its place in the queue, whom it concerns, and when it happened."""

    row: int
    owner: str
    event: Happening


@dataclass(frozen=True)
class Undelivered:
    """What MLflow did not get.

    ``waiting`` events come later (``aiq resume`` or ``aiq doctor --fix`` deliver them), ``refused``
    ones never; ``error`` is MLflow's last word.
    """

    waiting: int = 0
    refused: int = 0
    trials: int = 0
    error: str | None = None

    def __bool__(self) -> bool:
        return bool(self.waiting or self.refused)

    def __str__(self) -> str:
        if not self:
            return "MLflow has everything."
        said = f" The last error was: {self.error}" if self.error else ""
        return (
            f"MLflow lacks {self.waiting + self.refused} events of {self.trials} trials "
            f"({self.waiting} wait in the outbox, {self.refused} were refused).{said}"
        )


def owner_of(event: Happening) -> str:
    """Whose run an event belongs to: the trial's key, or the study's id."""
    return (
        event.study
        if isinstance(event, StudyStarted | PhaseStarted | StudyEnded | FilesWritten | ChampionExported)
        else str(event.key)
    )


def event_id(event: Happening) -> str:
    """Identity of an event: the same for the same happening, however often it is told.

    A trial starts, ends and sees each epoch once; a study may be taken up, and a trial resumed, many
    times.
    """
    match event:
        case EpochEnded(epoch=epoch):
            what = f"epoch/{epoch}"
        case TrialStarted(resumed=False):
            what = "started"
        case TrialStarted(time=time):
            what = f"resumed/{time:.6f}"
        case TrialEnded():
            what = "ended"
        case PhaseStarted(phase=phase, time=time):
            what = f"phase/{phase}/{time:.6f}"
        case StudyStarted(time=time):
            what = f"study/{time:.6f}"
        case StudyEnded(time=time):
            what = f"over/{time:.6f}"
        case FilesWritten(time=time):
            what = f"files/{time:.6f}"
        case ChampionExported(time=time):
            what = f"champion/{time:.6f}"
    return f"{owner_of(event)}/{what}"


def encode(event: Happening) -> str:
    """Write an event as JSON, without credentials."""
    return json.dumps(redacted(event), default=_as_plain)


def decode(kind: str, payload: str) -> Happening:
    """Read an event back from ``encode``."""
    fields = json.loads(payload)
    if "key" in fields:
        key = fields["key"]
        fields["key"] = TrialKey(key["study"], Phase(key["phase"]), key["number"])
    if "phase" in fields:
        fields["phase"] = Phase(fields["phase"])
    if "finalists" in fields:
        fields["finalists"] = tuple(fields["finalists"])
    if "state" in fields:
        fields["state"] = TrialState(fields["state"])
    event: Happening = _KINDS[kind](**fields)
    return event


def _as_plain(value: object) -> object:
    """Turn what JSON does not know (NumPy numbers, paths, frozen mappings) into what it does."""
    item = getattr(value, "item", None)
    return item() if callable(item) else redact(str(value))


class Outbox:
    """The outbox of the study in folder ``directory``; made where it is missing.

    Safe to share between threads. Every method is one short transaction.

    Args:
        directory: Folder of the study.
        busy_timeout: Seconds to wait while the other process writes.
    """

    def __init__(self, directory: Path, busy_timeout: float = 10.0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            directory / FILE, timeout=busy_timeout, check_same_thread=False, isolation_level=None
        )
        # WAL with NORMAL: a commit costs some 20 us and survives every death of a process. A power cut
        # may take the last commits; reconciling with the study brings them back.
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; the outbox cannot be used afterwards."""
        self._connection.close()

    def put(self, events: Iterable[Happening]) -> int:
        """Append events; known ones are left as they are. Returns how many were new."""
        rows = [(event_id(e), owner_of(e), type(e).__name__, e.time, encode(e)) for e in events]
        with self._transaction() as connection:
            before = connection.total_changes
            connection.executemany(
                "INSERT OR IGNORE INTO events (event_id, owner, kind, time, payload) VALUES (?, ?, ?, ?, ?)",
                rows,
            )
            return connection.total_changes - before

    def waiting(self, limit: int = 5000) -> list[Letter]:
        """The oldest waiting events, in order."""
        rows = self._ask(
            "SELECT row, owner, kind, payload FROM events WHERE state = 0 ORDER BY row LIMIT ?", limit
        )
        return [Letter(row, owner, decode(kind, payload)) for row, owner, kind, payload in rows]

    def history(
        self, kind: type[Any] | None = None, owner: str | None = None, after: int = 0
    ) -> list[Letter]:
        """All events ever put, delivered or not, in order.

        Args:
            kind: Only events of this kind.
            owner: Only those of one run.
            after: Only those behind this row.
        """
        wanted = {"owner = ?": owner, "kind = ?": kind.__name__ if kind else None, "row > ?": after}
        given = {clause: value for clause, value in wanted.items() if value is not None}
        rows = self._ask(  # only what is asked for is named, so that the indices are used
            f"SELECT row, owner, kind, payload FROM events WHERE {' AND '.join(given)} ORDER BY row",  # noqa: S608
            *given.values(),
        )
        return [Letter(row, who, decode(what, payload)) for row, who, what, payload in rows]

    def owners(self, kind: type[Any]) -> set[str]:
        """Whose runs have an event of a kind, delivered or not."""
        return {row[0] for row in self._ask("SELECT owner FROM events WHERE kind = ?", kind.__name__)}

    def has_more(self, row: int) -> bool:
        """Whether an event behind ``row`` waits."""
        return bool(self._ask("SELECT 1 FROM events WHERE state = 0 AND row > ? LIMIT 1", row))

    def delivered(self, letters: Iterable[Letter]) -> None:
        """Mark events as arrived."""
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE events SET state = 1, error = NULL WHERE row = ?", [(x.row,) for x in letters]
            )

    def refused(self, letters: Iterable[Letter], error: str) -> None:
        """Mark events as refused by MLflow for good."""
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE events SET state = 2, error = ? WHERE row = ?", [(error, x.row) for x in letters]
            )

    def runs(self) -> dict[str, str]:
        """Run id by owner."""
        return dict(self._ask("SELECT owner, run_id FROM runs"))

    def remember_runs(self, runs: Mapping[str, str]) -> None:
        """Keep which run belongs to whom."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?)", list(runs.items()))

    def forget_runs(self, owners: Iterable[str]) -> None:
        """Forget runs that MLflow does not have (any more): all that they held waits again."""
        keys = [(owner,) for owner in owners]
        with self._transaction() as connection:
            connection.executemany("DELETE FROM runs WHERE owner = ?", keys)
            connection.executemany("UPDATE events SET state = 0, error = NULL WHERE owner = ?", keys)

    def fact(self, name: str) -> str | None:
        """A remembered fact, such as the store that the run ids belong to."""
        rows = self._ask("SELECT value FROM facts WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def remember(self, name: str, value: str | None) -> None:
        """Remember a fact; None forgets it."""
        with self._transaction() as connection:
            if value is None:
                connection.execute("DELETE FROM facts WHERE name = ?", (name,))
            else:
                connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def undelivered(self) -> Undelivered:
        """What MLflow lacks now."""
        waiting, refused, trials = self._ask(
            # Two parts, each with an index of its own: what was delivered is never read.
            "WITH missing AS (SELECT state, kind, owner FROM events WHERE state = 0 "
            "UNION ALL SELECT state, kind, owner FROM events WHERE state = 2) "
            "SELECT coalesce(sum(state = 0), 0), coalesce(sum(state = 2), 0), "
            "count(DISTINCT CASE WHEN kind IN ('TrialStarted', 'EpochEnded', 'TrialEnded') THEN owner END) "
            "FROM missing"
        )[0]
        error = self.fact("error")
        if refused and error is None:
            error = self._ask("SELECT error FROM events WHERE state = 2 ORDER BY row DESC LIMIT 1")[0][0]
        return Undelivered(waiting, refused, trials, error)

    def _ask(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
