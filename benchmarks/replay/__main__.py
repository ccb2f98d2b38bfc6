"""Make the table, replay searches against it, and say how well they choose.

python -m benchmarks.replay build --home DIR --data-dir DIR     train the table, or go on with it
python -m benchmarks.replay [--replays 200] [--output docs/quality.md]
python -m benchmarks.replay search --seed 0                     one replay through Ray and MLflow
    python -m benchmarks.replay judge --home .aiq --study STUDY     what a real search of the space chose
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from aiq_search import run_search
from aiq_search.study import Study
from benchmarks.replay.quality import BUDGETS, describe, replay_all
from benchmarks.replay.search import SPACE, outcome_of
from benchmarks.replay.table import TABLE, Table, build

_BEGIN, _END = "<!-- tables: begin -->", "<!-- tables: end -->"


def main() -> None:
    """Do what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=["quality", "build", "search", "judge"], default="quality")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--replays", type=int, default=200, help="how often each search is replayed")
    parser.add_argument("--seed", type=int, default=0, help="search.seed of the (first) replay")
    parser.add_argument("--processes", type=int, help="how many replay at once; by default one a core")
    parser.add_argument("--mirrored", action="store_true", help="let what is best narrow be best wide")
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--output", type=Path, help="rewrite the tables in this file")
    parser.add_argument(
        "--home",
        type=Path,
        default=Path("replay-table"),
        help="AIQ_HOME of the table's studies, or of the study to judge",
    )
    parser.add_argument("--study", help="id of the study to judge, in --home")
    parser.add_argument("--data-dir", type=Path, help="folder of MNIST's files")
    arguments = parser.parse_args()
    if arguments.what == "build":
        build(arguments.home, arguments.data_dir).to_csv(arguments.table, index=False)
    elif arguments.what == "search":
        _search(arguments)
    elif arguments.what == "judge":
        study = Study.open(arguments.study or "", arguments.home)
        print(outcome_of(study, Table.load(arguments.table), study.champion()))
    else:
        _quality(arguments)


def _search(arguments: argparse.Namespace) -> None:
    from benchmarks.replay.worker import replaying

    table = Table.load(arguments.table)
    result = run_search(
        SPACE,
        overrides=[f"search.seed={arguments.seed}"],
        data_dir=arguments.data_dir,
        worker=replaying(table),
    )
    if result.champion is not None:
        print(outcome_of(result.study, table, result.champion))


def _quality(arguments: argparse.Namespace) -> None:
    table = Table.load(arguments.table)
    if arguments.mirrored:
        table = table.mirrored()
    seeds = range(arguments.seed, arguments.seed + arguments.replays)
    parts = [_of_table(table)]
    for budget in arguments.budgets:
        begun = time.monotonic()
        replays = replay_all(table, budget, seeds, arguments.processes)
        each = (time.monotonic() - begun) / (len(seeds) * len(replays.outcomes))
        parts.append(
            f"### {budget.capitalize()}\n\nSeeds {seeds[0]} to {seeds[-1]}"
            + (f", with `{' '.join(replays.edits)}`" if replays.edits else "")
            + f". {each:.2f} s a replay.\n\n{describe(table, replays)}"
        )
        print(parts[-1], flush=True)
    if arguments.output is not None:
        text = arguments.output.read_text(encoding="utf-8")
        before, _, rest = text.partition(_BEGIN)
        drawn = "\n".join(parts)
        after = rest.partition(_END)[2]
        arguments.output.write_text(f"{before}{_BEGIN}\n{drawn}{_END}{after}", encoding="utf-8")


def _of_table(table: Table) -> str:
    """The best cells."""
    best = sorted(table.means, key=table.means.__getitem__, reverse=True)
    lines = ["| widths | runs | mean aIQ | sd over seeds |", "|---|---:|---:|---:|"]
    for cell in best[:12]:
        numbers = f"{table.seeds[cell]} | {table.means[cell]:.4f} | {table.sds[cell]:.4f}"
        lines.append(f"| {'-'.join(map(str, cell))} | {numbers} |")
    near = sum(table.regret(cell) <= 0.01 for cell in best)
    return "\n".join(lines) + f"\n\n{near} of {len(best)} cells lie within .01 of the best.\n"


if __name__ == "__main__":
    main()
