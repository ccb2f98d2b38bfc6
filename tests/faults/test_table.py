"""The rows of the fault table, three faults each, with simulated 0.2 s steps where Ray is not the matter."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from aiq_search.search import Study
from benchmarks.faults.processes import empty_store
from benchmarks.faults.rows import ROWS, Conditions, SkippedRowError
from benchmarks.faults.table import table, write_table
from benchmarks.faults.verdict import Finished, Verdict, _draws_again, judge
from tests.search.simulation import finish, new_study

TIMES = 3


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_store(tmp_path_factory.mktemp("store"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", ROWS)
def test_nothing_is_lost(row: str, tmp_path: Path, empty: Path) -> None:
    conditions = Conditions(tmp_path, empty, TIMES, real=False)
    try:
        verdict = ROWS[row](conditions)
    except SkippedRowError as reason:
        pytest.skip(str(reason))
    finally:
        conditions.end()
    assert verdict.holds, verdict
    assert verdict.times == TIMES


GOOD = Verdict("driver", 3, before=9, lost=0, twice=0, doubled=0, running=0, sampler=True)


def test_a_row_holds_only_if_nothing_is_wrong() -> None:
    assert GOOD.holds
    for wrong in ({"lost": 1}, {"twice": 1}, {"doubled": 1}, {"running": 1}, {"sampler": False}):
        assert not dataclasses.replace(GOOD, **wrong).holds


def test_a_proposal_that_does_not_follow_from_the_study_is_noticed(tmp_path: Path) -> None:
    study = new_study(tmp_path, search={"sampler": "tpe", "trials": 14})
    finish(study)
    again = Study.open(tmp_path, study.id)
    assert _draws_again(again)
    lines = again.journal.read_text().splitlines()
    values = [json.loads(line) for line in lines]
    # One finished trial's value is another than the sampler saw: what it proposed later no longer follows.
    told = [i for i, v in enumerate(values) if v["op_code"] == 6 and v.get("values")]
    for index in told[:8]:
        values[index]["values"] = [1 - values[index]["values"][0]]
    again.journal.write_text("".join(f"{json.dumps(v)}\n" for v in values))
    assert not _draws_again(Study.open(tmp_path, study.id))


def test_a_trial_that_is_gone_is_lost_and_one_without_a_run_is_noticed(tmp_path: Path, empty: Path) -> None:
    study = new_study(tmp_path, search={"trials": 2}, confirm={"finalists": 0})
    finish(study)
    finished = Finished()
    finished.note(Study.open(tmp_path, study.id).records())
    finished.seen["study/explore/9"] = ("COMPLETE",)
    from aiq_search.tracking import Outbox

    Outbox(study.directory).close()
    verdict = judge("test", 1, Study.open(tmp_path, study.id), finished, f"sqlite:///{empty}")
    assert (verdict.before, verdict.lost, verdict.doubled) == (3, 1, 3)


def test_the_table_keeps_rows_that_were_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "faults.md"
    path.write_text("before\n<!-- table: begin -->\n<!-- table: end -->\nafter\n")
    write_table(path, [GOOD], {})
    write_table(path, [dataclasses.replace(GOOD, fault="worker", lost=2)], {"clock": "no libfaketime"})
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| driver | 3 | 9 | 0 | 0 | 0 | 0 | right |  |" in text
    assert "| worker | 3 | 9 | 2 |" in text
    assert "not run: no libfaketime" in text
    write_table(path, [GOOD], {})
    assert path.read_text() == text
    assert table([GOOD], {}).count("\n") == 3
