"""Make the fault table: ``python -m benchmarks.faults --output docs/faults.md``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.faults.processes import empty_store
from benchmarks.faults.rows import ROWS, Conditions, SkippedRowError, as_json
from benchmarks.faults.table import write_table
from benchmarks.faults.verdict import Verdict


def main() -> int:
    """Run the rows that are asked for, and write the table; 1 if a row does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="how often a worker or the driver is killed")
    parser.add_argument("--others", type=int, default=5, help="how often each other fault happens")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument(
        "--simulated", action="store_true", help="simulate the training of the driver row too"
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes the random times")
    parser.add_argument("--output", type=Path, help="rewrite the table in this file")
    arguments = parser.parse_args()
    verdicts: list[Verdict] = []
    skipped: dict[str, str] = {}
    broken = False
    with tempfile.TemporaryDirectory(prefix="aiq-faults-", ignore_cleanup_errors=True) as folder:
        empty = empty_store(Path(folder))
        for name in arguments.rows:
            begun = time.monotonic()
            times = arguments.times if name in ("worker", "driver") else arguments.others
            given = Conditions(Path(folder), empty, times, not arguments.simulated, arguments.seed)
            try:
                verdict = ROWS[name](given)
            except SkippedRowError as reason:
                skipped[name] = str(reason)
                print(f"{name}: skipped: {reason}", flush=True)
                continue
            except (RuntimeError, TimeoutError) as error:
                print(f"{name}: BROKEN: {error}", flush=True)
                broken = True
                continue
            finally:
                given.end()
            verdicts.append(verdict)
            if verdict.times < times:
                print(f"{name}: BROKEN: it happened {verdict.times} times, not {times}", flush=True)
                broken = True
            held = "holds" if verdict.holds else "DOES NOT HOLD"
            print(f"{name}: {held} ({time.monotonic() - begun:.0f} s) {as_json(verdict)}", flush=True)
    if arguments.output is not None:
        write_table(arguments.output, verdicts, skipped)
    return int(broken or not all(verdict.holds for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
