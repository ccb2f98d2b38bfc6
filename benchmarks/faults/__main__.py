"""Make the fault table: ``python -m benchmarks.faults --output docs/faults.md``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.faults.launching import REPOSITORY
from benchmarks.faults.processes import empty_store
from benchmarks.faults.rows import ROWS, Conditions, SkippedRowError
from benchmarks.faults.table import Known, table, write_table
from benchmarks.faults.verdict import Verdict


def main() -> int:
    """Run the rows, and write the table; 1 if a row does not hold."""
    arguments = _arguments()
    commit = _commit()
    known = Known(arguments.keep, f"{commit} {arguments.times} {arguments.others} {arguments.seed}")
    broken = False
    with tempfile.TemporaryDirectory(prefix="aiq-faults-", ignore_cleanup_errors=True) as folder:
        empty = empty_store(Path(folder))
        for name in arguments.rows:
            if name in known.rows:
                continue
            times = arguments.times if name in ("worker", "driver") else arguments.others
            try:
                known.add(name, _row(name, Conditions(Path(folder), empty, times, True, arguments.seed)))
            except (RuntimeError, TimeoutError) as error:
                print(f"{name}: BROKEN: {error}", flush=True)
                broken = True
    title = f"Made on commit {commit} by `python -m benchmarks.faults --output docs/faults.md`."
    rows = [known.rows[name] for name in arguments.rows if name in known.rows]
    print(table(title, rows))
    if broken:
        return 1
    if arguments.output is not None:
        write_table(arguments.output, title, rows)
    return int(not all(row.holds for row in rows if isinstance(row, Verdict)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="how often a worker or the driver is killed")
    parser.add_argument("--others", type=int, default=5, help="how often each other fault happens")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="only these")
    parser.add_argument("--seed", type=int, default=0, help="fixes the random times")
    parser.add_argument("--keep", type=Path, help="file of finished rows: a second call goes on from there")
    parser.add_argument("--output", type=Path, help="write the table into this file")
    return parser.parse_args()


def _row(name: str, conditions: Conditions) -> Verdict | str:
    """Run a row; its verdict, or why it cannot be run here.

    Raises:
        RuntimeError: The fault did not happen as often as it should, or a search did not end as it should.
        TimeoutError: Something that was waited for did not come.
    """
    begun = time.monotonic()
    try:
        verdict = ROWS[name](conditions)
    except SkippedRowError as reason:
        print(f"{name}: skipped: {reason}", flush=True)
        return f"{name}: not run: {reason}"
    finally:
        conditions.end()
    if verdict.times < conditions.times:
        raise RuntimeError(f"it happened {verdict.times} times, not {conditions.times}")
    held = "holds" if verdict.holds else "DOES NOT HOLD"
    print(f"{name}: {held} ({time.monotonic() - begun:.0f} s) {vars(verdict)}", flush=True)
    return verdict


def _commit() -> str:
    """The commit that is tested; ``-dirty`` where the files differ from it."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
