"""The outbox of a study: events that wait for MLflow, and which run belongs to which trial.

One SQLite file in the study's folder. The driver appends events, the delivery process takes them out
and remembers run ids; both survive any death of either. Every event has an identity of its own
(``event_id``), so that putting it again changes nothing.

The study is the truth: an outbox that is damaged is made again from it, and an event that cannot be read
is set aside, so that it holds up no other.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aiq_search.errors import StudyError
from aiq_search.tracking.letters import (
    Happening,
    Letter,
    UnreadableError,
    checksum,
    decode,
    encode,
    event_id,
    owner_of,
)

__all__ = ["REGISTERED", "Outbox", "OutboxDamagedError", "Undelivered"]

FILE = "outbox.sqlite"
REGISTERED = "registered"  # the fact that says what became of the champion in the registry

_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,            -- trial key, or the study's id
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    checksum INTEGER NOT NULL,      -- of the four columns before
    -- 0 waits, 1 delivered, 2 refused by MLflow; unreadable: 3 before it was delivered, 4 after that
    state INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 4),
    error TEXT
);
CREATE INDEX IF NOT EXISTS waiting ON events (row) WHERE state = 0;
CREATE INDEX IF NOT EXISTS were_refused ON events (row) WHERE state = 2;
CREATE INDEX IF NOT EXISTS set_aside ON events (row) WHERE state = 3;
-- With the kind in it: for "this owner, this kind" SQLite would else read every event of the kind.
CREATE INDEX IF NOT EXISTS by_owner ON events (owner, kind, row);
CREATE INDEX IF NOT EXISTS by_kind ON events (kind, row, owner);
CREATE TABLE IF NOT EXISTS runs (owner TEXT PRIMARY KEY, run_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

# What SQLite says of a file that is not what it was: ERROR (a column is gone), CORRUPT, SCHEMA, MISMATCH,
# FORMAT, NOTADB. A file that is locked, full or not allowed says something else.
_DAMAGED = {1, 11, 17, 20, 24, 26}

_PUT = """
INSERT INTO events (event_id, owner, kind, payload, checksum) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (event_id) DO UPDATE SET owner = excluded.owner, kind = excluded.kind, payload = excluded.payload,
checksum = excluded.checksum, state = state - 3, error = NULL WHERE state >= 3
"""

_COLUMNS = "row, event_id, owner, kind, payload, checksum"


class OutboxDamagedError(StudyError):
    """The outbox is no database, or not the one that it was."""


@dataclass(frozen=True)
class Undelivered:
    """What MLflow did not get.

    ``waiting`` events come later (``aiq resume`` or ``aiq doctor --fix`` deliver them), ``refused`` ones
    never; those ``aside`` cannot be read. ``error`` is MLflow's last word, or why they cannot be read.
    """

    waiting: int = 0
    refused: int = 0
    trials: int = 0
    error: str | None = None
    aside: int = 0

    def __bool__(self) -> bool:
        return bool(self.waiting or self.refused or self.aside)

    def __str__(self) -> str:
        if not self:
            return "MLflow has everything."
        number = self.waiting + self.refused + self.aside
        events = "1 event" if number == 1 else f"{number:,} events"
        has = "has" if number == 1 else "have"
        trials = f" of {'1 trial' if self.trials == 1 else f'{self.trials:,} trials'}" if self.trials else ""
        parts = [f"{self.waiting:,} queued", f"{self.refused:,} rejected"]
        parts += [f"{self.aside:,} unreadable and set aside"] if self.aside else []
        error = f" The last error was: {self.error}" if self.error else ""
        return f"{events}{trials} {has} not reached MLflow ({', '.join(parts)}).{error}"


class Outbox:
    """The outbox of the study in folder ``directory``; made where it is missing.

    Safe to share between threads. Every method is one short transaction.

    Args:
        directory: Folder of the study.
        busy_timeout: Seconds to wait while the other process writes.
        rebuild: Put a damaged file aside and start an empty one: for who fills it again from the study.

    Attributes:
        directory: Folder of the study.
        damage: What was wrong with the file that was put aside; None where nothing was.

    Raises:
        OutboxDamagedError: The file is damaged, and not to be rebuilt.
        StudyError: A later version wrote it.
    """

    def __init__(self, directory: Path, busy_timeout: float = 10.0, *, rebuild: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.damage: str | None = None
        self._lock = threading.RLock()
        try:
            self._connection = _open(directory / FILE, busy_timeout)
        except OutboxDamagedError as error:
            if not rebuild:
                raise
            self.damage = str(error)
            _keep_damaged(directory / FILE)
            self._connection = _open(directory / FILE, busy_timeout)

    def close(self) -> None:
        """Close the file; the outbox cannot be used afterwards."""
        self._connection.close()

    def put(self, events: Iterable[Happening]) -> int:
        """Append events; known ones are left as they are. Returns how many were new, or unreadable before."""
        rows = ((event_id(e), owner_of(e), type(e).__name__, encode(e)) for e in events)
        with self._transaction() as connection:
            before = connection.total_changes
            connection.executemany(_PUT, ((*row, checksum(*row)) for row in rows))
            return connection.total_changes - before

    def waiting(self, limit: int = 5000) -> list[Letter]:
        """The oldest waiting events, in order; those that cannot be read are set aside."""
        while True:
            rows = self._rows("state = 0 ORDER BY row LIMIT ?", limit)
            letters = self._letters(rows)
            if letters or not rows:
                return letters

    def history(
        self, kind: type[Any] | None = None, owner: str | None = None, after: int = 0
    ) -> list[Letter]:
        """The events ever put, delivered or not, in order; those that cannot be read are set aside.

        Args:
            kind: Only events of this kind.
            owner: Only those of one run.
            after: Only those behind this row.
        """
        wanted = {"owner = ?": owner, "kind = ?": kind.__name__ if kind else None, "row > ?": after}
        # Only what is asked for is named, so that the indices are used.
        clauses = {clause: value for clause, value in wanted.items() if value is not None}
        where = " AND ".join([*clauses, "state < 3"])
        return self._letters(self._rows(f"{where} ORDER BY row", *clauses.values()))

    def owners(self, kind: type[Any]) -> set[str]:
        """Whose runs have an event of a kind, delivered or not."""
        return {row[0] for row in self._ask("SELECT owner FROM events WHERE kind = ?", kind.__name__)}

    def event_ids(self) -> set[str]:
        """Identities of the events that can be read; the others are set aside."""
        ids: set[str] = set()
        unreadable: list[tuple[str | None, int]] = []
        with self._lock:
            for row in self._connection.execute(f"SELECT {_COLUMNS} FROM events WHERE state < 3"):  # noqa: S608
                try:
                    _letter(row)
                    ids.add(row[1])
                except UnreadableError as error:
                    unreadable.append((str(error), row[0]))
        self._put_aside(unreadable)
        return ids

    def has_more(self, row: int) -> bool:
        """Whether an event behind ``row`` waits."""
        return bool(self._ask("SELECT 1 FROM events WHERE state = 0 AND row > ? LIMIT 1", row))

    def delivered(self, letters: Iterable[Letter]) -> None:
        """Mark events as arrived."""
        self._mark("1", [(None, letter.row) for letter in letters])

    def refused(self, letters: Iterable[Letter], error: str) -> None:
        """Mark events as refused by MLflow for good."""
        self._mark("2", [(error, letter.row) for letter in letters])

    def set_aside(self, letters: Iterable[Letter], reason: str) -> None:
        """Mark events as waiting no more until the study puts them again."""
        self._put_aside([(reason, letter.row) for letter in letters])

    def retry_set_aside(self) -> None:
        """Have what was set aside wait again: this version may read it."""
        with self._transaction() as connection:
            connection.execute("UPDATE events SET state = state - 3, error = NULL WHERE state >= 3")

    def discard_damaged(self) -> list[str]:
        """Remove events that were cut or changed, after the study has put again what it knows of.

        Returns:
            The kinds of those that were not delivered.
        """
        damaged = [row for row in self._rows("state >= 3") if not _is_whole(row)]
        missing = [str(row[3]) for row in self._rows("state = 3") if not _is_whole(row)]
        with self._transaction() as connection:
            connection.executemany("DELETE FROM events WHERE row = ?", [(row[0],) for row in damaged])
        return missing

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

    def number(self, name: str) -> int | None:
        """A remembered fact that is a whole number."""
        with suppress(TypeError, ValueError):
            return int(self.fact(name) or "")
        return None

    def remember(self, name: str, value: str | None) -> None:
        """Remember a fact; None forgets it."""
        with self._transaction() as connection:
            if value is None:
                connection.execute("DELETE FROM facts WHERE name = ?", (name,))
            else:
                connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def undelivered(self) -> Undelivered:
        """What MLflow lacks now."""
        waiting, refused, aside, trials = self._ask(
            # Three parts, each with an index of its own: what was delivered is never read.
            "WITH missing AS (SELECT state, kind, owner FROM events WHERE state = 0 "
            "UNION ALL SELECT state, kind, owner FROM events WHERE state = 2 "
            "UNION ALL SELECT state, kind, owner FROM events WHERE state = 3) "
            "SELECT coalesce(sum(state = 0), 0), coalesce(sum(state = 2), 0), coalesce(sum(state = 3), 0), "
            "count(DISTINCT CASE WHEN kind IN ('TrialStarted', 'EpochEnded', 'TrialEnded') THEN owner END) "
            "FROM missing"
        )[0]
        error = self.fact("error")
        for state, number in ((2, refused), (3, aside)):
            if number and error is None:
                query = f"SELECT error FROM events WHERE state = {state} ORDER BY row DESC LIMIT 1"  # noqa: S608
                error = self._ask(query)[0][0]
        return Undelivered(waiting, refused, trials, error, aside)

    def _rows(self, where: str, *values: object) -> list[tuple[Any, ...]]:
        return self._ask(f"SELECT {_COLUMNS} FROM events WHERE {where}", *values)  # noqa: S608 - our own words

    def _letters(self, rows: Iterable[tuple[Any, ...]]) -> list[Letter]:
        letters: list[Letter] = []
        unreadable: list[tuple[str | None, int]] = []
        for row in rows:
            try:
                letters.append(_letter(row))
            except UnreadableError as error:
                unreadable.append((str(error), row[0]))
        if unreadable:
            self._put_aside(unreadable)
        return letters

    def _mark(self, state: str, rows: list[tuple[str | None, int]]) -> None:
        """Give events another state, with the reason."""
        with self._transaction() as connection:
            connection.executemany(f"UPDATE events SET state = {state}, error = ? WHERE row = ?", rows)  # noqa: S608

    def _put_aside(self, rows: list[tuple[str | None, int]]) -> None:
        """Set events aside. Their runs are looked for again: whether MLflow has the events is not sure."""
        self._mark("CASE state WHEN 1 THEN 4 WHEN 4 THEN 4 ELSE 3 END", rows)
        with self._transaction() as connection:
            connection.executemany(
                "DELETE FROM runs WHERE owner = (SELECT owner FROM events WHERE row = ?)",
                [(row,) for _, row in rows],
            )

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


def _is_whole(row: tuple[Any, ...]) -> bool:
    """Whether a row of the table is as it was written."""
    _, *parts, expected = row
    return all(isinstance(part, str) for part in parts) and checksum(*parts) == expected


def _letter(row: tuple[Any, ...]) -> Letter:
    """A row of the table as a letter.

    Raises:
        UnreadableError: It is not as it was written, or this version cannot read it.
    """
    number, _, owner, kind, payload, _ = row
    if not _is_whole(row):
        raise UnreadableError(f"an event of the kind {str(kind)[:40]!r} was cut or changed in the outbox")
    return Letter(number, owner, decode(kind, payload))


def _open(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open an outbox's file and look through it: a quarter of a second for 5,000 trials."""
    connection = sqlite3.connect(path, timeout=busy_timeout, check_same_thread=False, isolation_level=None)
    # Text that is none any more must not end every question; its checksum tells.
    connection.text_factory = lambda content: content.decode(errors="replace")
    try:
        # WAL with NORMAL: a commit costs some 20 us and survives every death of a process. A power cut
        # may take the last commits; reconciling with the study brings them back.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        [(version,)] = connection.execute("PRAGMA user_version")
        if version > _VERSION:
            raise StudyError(
                f"{path} was written by a later version of aiq-search (format {version}; this version knows "
                f"{_VERSION}). Update aiq-search, or remove the file: it is made again from the study."
            )
        connection.executescript(_SCHEMA)  # writes nothing where all of it is there
        if version < _VERSION:
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        [(verdict,), *_] = connection.execute("PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise OutboxDamagedError(f"{path} is damaged ({verdict.splitlines()[-1]})")
        if _tables(connection) != _our_tables():
            raise OutboxDamagedError(f"{path} is damaged (its tables are not those of an outbox)")
    except UnicodeDecodeError:  # SQLite's own message quotes what it read
        connection.close()
        raise OutboxDamagedError(f"{path} is damaged (its tables are not those of an outbox)") from None
    except sqlite3.DatabaseError as error:
        connection.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        raise OutboxDamagedError(f"{path} is damaged ({error})") from None
    except BaseException:
        connection.close()
        raise
    return connection


def _tables(connection: sqlite3.Connection) -> list[Any]:
    """Tables and indices, as SQLite keeps them."""
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


@cache
def _our_tables() -> list[Any]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return _tables(connection)


def _keep_damaged(path: Path) -> None:
    """Keep a damaged file beside the new one, for who wants to look at it."""
    path.replace(path.with_suffix(".damaged"))
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
