"""An outbox that is cut, changed or from a later version costs no event and writes no number twice."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import Result
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from aiq_search.app import doctor as doctor_app
from aiq_search.app.doctor.finding import Finding
from aiq_search.app.doctor.study import check_runs
from aiq_search.cli.main import app
from aiq_search.errors import StudyError
from aiq_search.study import StudyStarted
from aiq_search.study.ended import end_of
from aiq_search.tracking import MlflowListener, Outbox, reconcile
from aiq_search.tracking.letters import checksum
from aiq_search.tracking.outbox import FILE, Undelivered
from aiq_search.tracking.reconcile import events_of
from tests.search.simulation import finish, new_study
from tests.tracking.conftest import runs_of
from tests.tracking.delivering import deliver

IN_CI, AT_NIGHT = 40, 1500

Seen: TypeAlias = dict[tuple[str, str], Any]


class Scene:
    """A finished study whose outbox and store have everything, to damage and to restore.

    Args:
        home: AIQ_HOME.
        empty_store: A database with MLflow's tables.
    """

    def __init__(self, home: Path, empty_store: Path) -> None:
        self.study = new_study(home, "study", search={"trials": 5})
        finish(self.study)
        self.study.mark_ended("finished")
        self.outbox, self._store = self.study.directory / FILE, home / "mlflow.db"
        self.store = f"sqlite:///{self._store}"
        shutil.copy(empty_store, self._store)
        box = Outbox(self.study.directory)
        # As the driver sends them: at other times than the study remembers.
        sent = [e if isinstance(e, StudyStarted) else _earlier(e) for e in events_of(self.study)]
        box.put([*sent, end_of(self.study)])
        deliver(box, self.store)
        assert not box.undelivered()
        box.close()
        self._pristine = {path: path.read_bytes() for path in (self.outbox, self._store)}
        self.expected = numbers(self.store)

    def restore(self) -> None:
        """Everything as it was before the damage."""
        for path, content in self._pristine.items():
            path.write_bytes(content)
            for rest in ("-wal", "-shm", "-journal"):
                path.with_name(path.name + rest).unlink(missing_ok=True)

    def checks(self) -> list[Finding]:
        """What ``aiq doctor`` says of outbox and runs."""
        return list(check_runs(self.study, self.study.records(), self.store))

    def fixed(self, monkeypatch: pytest.MonkeyPatch) -> Undelivered:
        """What ``aiq doctor --fix`` does with an outbox, but for the process that delivers."""
        listener = MlflowListener(self.study.directory, self.store)
        monkeypatch.setattr(listener, "_keep_delivering", lambda: None)
        reconcile(self.study, listener)
        listener.outbox.discard_damaged()
        listener.on_event(end_of(self.study))
        deliver(listener.outbox, self.store)
        left = listener.outbox.undelivered()
        listener.outbox.close()
        return left


def _earlier(event: Any) -> Any:
    return type(event)(**(vars(event) | {"time": event.time - 0.25}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Scene:
    return Scene(tmp_path_factory.mktemp("home"), empty_store)


@pytest.fixture
def scene(made: Scene) -> Scene:
    made.restore()
    return made


def numbers(store: str) -> Seen:
    """State, and every value of every number, by run and name."""
    client = MlflowClient(store)
    seen: Seen = {}
    for owner, run in runs_of(store, "simulated").items():
        seen[owner, "state"] = (run.info.status, run.data.tags["aiq.state"], run.data.params)
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            seen[owner, name] = sorted((m.step, m.value) for m in history)
    return seen


def cut(draw: random.Random, content: bytearray) -> bytearray:
    return content[: draw.randrange(len(content))]


def zeroed(draw: random.Random, content: bytearray) -> bytearray:
    begin = draw.choice([0, draw.randrange(len(content))])
    length = draw.randrange(1, len(content) - begin + 1)
    content[begin : begin + length] = bytes(length)
    return content


def flipped(draw: random.Random, content: bytearray) -> bytearray:
    for _ in range(draw.choice([1, 4, 64])):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return content


def strewn(draw: random.Random, content: bytearray) -> bytearray:
    """Bytes changed where the events are: SQLite notices nothing."""
    places = [i for i in range(len(content)) if content.startswith(b'{"key', i)]
    for _ in range(draw.choice([1, 8])):
        content[draw.choice(places) + draw.randrange(-60, 200)] = draw.randrange(256)
    return content


def strange_rows(draw: random.Random, path: Path) -> None:
    """Rows as a later version may write them, and rows that say nonsense."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute("SELECT row, event_id, owner, kind, payload FROM events").fetchall()
        for row, event_id, owner, kind, payload in draw.sample(rows, draw.choice([1, 5])):
            kind, payload = draw.choice(
                [
                    ("WeightsMoved", payload),
                    (kind, payload[: draw.randrange(len(payload))]),
                    (kind, payload[:-1] + ', "later": 1}'),
                    (kind, draw.choice(["", "null", "[]", "{}", "[" * 5000, '{"key": 1}', '{"time": "x"}'])),
                    (draw.choice(["TrialEnded", "StudyEnded", "EpochEnded"]), payload),
                ]
            )
            whole = checksum(event_id, owner, kind, payload)
            state = draw.randrange(2)
            connection.execute(
                "UPDATE events SET kind = ?, payload = ?, checksum = ?, state = ? WHERE row = ?",
                (kind, payload, whole if draw.random() < 0.7 else 0, state, row),
            )


BYTES = [cut, zeroed, flipped, strewn]


def damaged_and_fixed(seed: int, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage an outbox in a way of its own, look at it, set it right, and compare MLflow."""
    draw = random.Random(seed)
    scene.restore()
    kind = [*BYTES, None][seed % 5]
    if kind is None:
        strange_rows(draw, scene.outbox)
    else:
        scene.outbox.write_bytes(kind(draw, bytearray(scene.outbox.read_bytes())))
    scene.checks()  # looking raises nothing
    if version_of(scene.outbox) > 1:
        with pytest.raises(StudyError, match="later version"):
            scene.fixed(monkeypatch)
        return
    left = scene.fixed(monkeypatch)
    assert (left.waiting, left.refused) == (0, 0), (seed, left)
    assert kind is None or not left.aside, (seed, left)
    assert numbers(scene.store) == scene.expected, seed


def version_of(path: Path) -> int:
    """The version that SQLite reads in a file's header; 0 where it is no database."""
    content = path.read_bytes()
    is_database = content.startswith(b"SQLite format 3\0")
    return int.from_bytes(content[60:64], "big", signed=True) if is_database else 0


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(4))
def test_whatever_is_damaged_mlflow_has_all_of_the_study_once(
    chunk: int, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(chunk, IN_CI, 4):
        damaged_and_fixed(seed, scene, monkeypatch)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_more_damages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(IN_CI, AT_NIGHT):
        damaged_and_fixed(seed, scene, monkeypatch)


class TestCommand:
    """``aiq doctor`` and ``aiq doctor --fix``, with the process that delivers."""

    @pytest.fixture
    def doctor(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
        monkeypatch.setenv("AIQ_HOME", str(scene.study.directory.parent.parent))
        monkeypatch.setattr(doctor_app, "check_environment", lambda *_: [])  # torch takes seconds
        monkeypatch.setattr(doctor_app, "check_search", lambda *_: [])

        def run(*options: str) -> Result:
            uri = ("--tracking-uri", scene.store, "--format", "json")
            return CliRunner().invoke(app, ["doctor", "study", *options, *uri])

        return run

    @pytest.mark.slow
    @pytest.mark.parametrize("content", [b"", b"\0" * 40_000, b"SQLite format 3\0" + b"\xff" * 9000], ids=len)
    def test_a_damaged_outbox_is_a_problem_and_fix_makes_it_again(
        self, scene: Scene, doctor: Callable[..., Result], content: bytes
    ) -> None:
        scene.outbox.write_bytes(content)
        looked = doctor()
        assert looked.exception is None or isinstance(looked.exception, SystemExit)
        if content:
            [problem] = [f for f in json.loads(looked.stdout) if f["level"] == "problem"]
            assert "outbox.sqlite is damaged" in problem["what"]
            assert problem["fixable"]
            assert looked.exit_code == 1
        done = doctor("--fix")
        assert done.exit_code == 0, done.output
        assert ("made again from the study" in done.stderr) == bool(content)
        assert numbers(scene.store) == scene.expected

    @pytest.mark.slow
    def test_an_event_of_a_later_version_holds_up_no_other(
        self, scene: Scene, doctor: Callable[..., Result]
    ) -> None:
        with closing(sqlite3.connect(scene.outbox, isolation_level=None)) as connection:
            later = ("study/weights/1", "study/explore/0", "WeightsMoved", "{}")
            first = (
                "INSERT INTO events (row, event_id, owner, kind, payload, checksum) VALUES (0, ?, ?, ?, ?, ?)"
            )
            connection.execute(first, (*later, checksum(*later)))
            connection.execute("UPDATE events SET state = 0 WHERE row > 0")
        begun = time.monotonic()
        done = doctor("--fix")
        assert time.monotonic() - begun < 45  # the delivery does not try for a minute
        assert done.exit_code == 1
        [problem] = [f for f in json.loads(done.stdout) if f["level"] == "problem"]
        assert "1 event of 0 trials" not in problem["what"]
        assert "1 unreadable and set aside" in problem["what"]
        assert "this version does not know the kind 'WeightsMoved'" in problem["what"]
        assert numbers(scene.store) == scene.expected
        left = Outbox(scene.study.directory).undelivered()
        assert (left.waiting, left.aside) == (0, 1)
