"""The rows of the fault table, three faults each, with simulated 0.2 s steps where Ray is not the matter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiq_search.study import Study
from benchmarks.faults.processes import empty_store
from benchmarks.faults.rows import ROWS, Conditions, SkippedRowError
from benchmarks.faults.table import Known, write_table
from benchmarks.faults.verdict import Finished, Verdict, _draws_again, judge
from tests.search.simulation import finish, new_study

TIMES = 3

# Two rows beside one in this thread keep two cores busy; those that take longest begin first. That of the
# Ray node is the one in this thread: Ray wants it for starting a cluster.
AT_ONCE = 2
LONGEST_FIRST = ["node", "worker", "mlflow", "clock", "driver", "disk", "torn", "postgres", "two"]
ROW = "::test_nothing_is_lost["


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def verdict_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty: Path
) -> Iterator[Callable[[str], Verdict]]:
    """Runs the rows that are asked for, side by side: most of their time goes by with waiting."""
    asked = [item.callspec.params["row"] for item in request.session.items if ROW in item.nodeid]

    def run(row: str) -> Verdict:
        conditions = Conditions(tmp_path_factory.mktemp(row), empty, TIMES, real=False)
        try:
            return ROWS[row](conditions)
        finally:
            conditions.end()

    pool = ThreadPoolExecutor(AT_ONCE)
    running = {row: pool.submit(run, row) for row in LONGEST_FIRST if row in asked and row != "node"}
    yield lambda row: running[row].result() if row in running else run(row)
    pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", LONGEST_FIRST)
def test_nothing_is_lost(row: str, verdict_of: Callable[[str], Verdict]) -> None:
    try:
        verdict = verdict_of(row)
    except SkippedRowError as reason:
        pytest.skip(str(reason))
    assert verdict.holds, verdict
    assert verdict.times == TIMES


def test_every_row_is_run() -> None:
    assert set(LONGEST_FIRST) == set(ROWS)


GOOD = Verdict("driver", 3, before=9, lost=0, twice=0, doubled=0, running=0, sampler=True)


def test_a_row_holds_only_if_nothing_is_wrong() -> None:
    assert GOOD.holds
    for wrong in ({"lost": 1}, {"twice": 1}, {"doubled": 1}, {"running": 1}, {"sampler": False}):
        assert not dataclasses.replace(GOOD, **wrong).holds


def test_a_proposal_that_does_not_follow_from_the_study_is_noticed(tmp_path: Path) -> None:
    study = new_study(tmp_path, search={"sampler": "tpe", "trials": 14})
    finish(study)
    again = Study.open(study.id, tmp_path)
    assert _draws_again(again)
    lines = again.journal.read_text().splitlines()
    values = [json.loads(line) for line in lines]
    # One finished trial's value is another than the sampler saw: what it proposed later no longer follows.
    told = [i for i, v in enumerate(values) if v["op_code"] == 6 and v.get("values")]
    for index in told[:8]:
        values[index]["values"] = [1 - values[index]["values"][0]]
    again.journal.write_text("".join(f"{json.dumps(v)}\n" for v in values))
    assert not _draws_again(Study.open(study.id, tmp_path))


def test_a_trial_that_is_gone_is_lost_and_one_without_a_run_is_noticed(tmp_path: Path, empty: Path) -> None:
    study = new_study(tmp_path, search={"trials": 2}, confirm={"finalists": 0})
    finish(study)
    finished = Finished()
    finished.note(Study.open(study.id, tmp_path).records())
    finished.seen["study/explore/9"] = ("COMPLETE",)
    from aiq_search.tracking import Outbox

    Outbox(study.directory).close()
    verdict = judge("test", 1, Study.open(study.id, tmp_path), finished, f"sqlite:///{empty}")
    assert (verdict.before, verdict.lost, verdict.doubled) == (3, 1, 3)


def test_the_table_stands_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "faults.md"
    path.write_text("before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n")
    rows = [GOOD, dataclasses.replace(GOOD, fault="worker", lost=2), "clock: not run: no libfaketime"]
    write_table(path, "Made on commit abc.", rows)
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "Made on commit abc." in text
    assert "| driver | 3 | 9 | 0 | 0 | 0 | 0 | right |  |" in text
    assert "| worker | 3 | 9 | 2 |" in text
    assert "| clock: not run: no libfaketime |" in text
    write_table(path, "Made on commit abc.", rows)
    assert path.read_text() == text


def test_a_second_call_takes_up_the_rows_of_the_same_commit(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    first = Known(path, "abc 20 5 0")
    first.add("driver", GOOD)
    first.add("clock", "clock: not run: no libfaketime")
    assert Known(path, "abc 20 5 0").rows == first.rows
    assert Known(path, "def 20 5 0").rows == {}
    assert Known(None, "abc 20 5 0").rows == {}
