"""Train what the claims of Schaub and Hotaling (2023) are about, and write what it shows.

    python -m benchmarks.paper size [--budget small] [--home paper-studies] [--data-dir DIR] [--address auto]
    python -m benchmarks.paper all --cost          # how long it would take, and nothing else
    python -m benchmarks.paper all --write         # write what has been trained so far, and train nothing

Each claim is one or several searches of the spaces in search_spaces/paper, under AIQ_HOME (--home), tracked
by MLflow like any other. The same command continues what was interrupted, and writes what is finished: a
section of docs/paper.md, its figure and its CSV. small is for two cores and two hours, full is the paper's
grid and recipe; the cost is stated before anything is trained.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aiq_search import run_search
from aiq_search.app import RunOptions, resume_search
from aiq_search.app.dry_run import dry_run
from aiq_search.study import Study
from benchmarks.paper.claims import BUDGETS, CLAIMS, Piece, evidence
from benchmarks.paper.document import write_section

_DOCUMENT = Path(__file__).parents[2] / "docs" / "paper.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments ask for; returns the exit code."""
    given = _parser().parse_args(arguments)
    names = list(CLAIMS) if given.claim == "all" else [given.claim]
    options = RunOptions(home=given.home, data_dir=given.data_dir, address=given.address)
    pieces = {name: _pieces(name, given.budget, given.set) for name in names}
    if not given.write:
        _state_cost({piece.name: piece for each in pieces.values() for piece in each}, given.budget, options)
    if given.cost:
        return 0
    for name in names:
        for piece in () if given.write else pieces[name]:
            if not _train(piece, given.budget, options):
                print(f"interrupted; the same command continues {piece.name}", file=sys.stderr)
                return 130
        studies = {p.name: study for p in pieces[name] if (study := _study(p, given.budget, options))}
        found = evidence(CLAIMS[name], studies, given.data_dir)
        if found is None:
            print(f"{name}: nothing is trained yet", file=sys.stderr)
            continue
        edits = "".join(f" --set {edit}" for edit in given.set)
        command = f"python -m benchmarks.paper {name} --budget {given.budget}{edits}"
        unfinished = [piece.name for piece in pieces[name] if piece.name not in studies]
        write_section(given.output, name, command, found, unfinished)
        print(f"{name}: written to {given.output}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("claim", choices=[*CLAIMS, "all"])
    parser.add_argument("--budget", choices=BUDGETS, default="small")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--cost", action="store_true", help="state the cost, and end")
    only.add_argument("--write", action="store_true", help="write what has been trained so far")
    parser.add_argument("--address", help="a Ray cluster that this machine is a node of")
    parser.add_argument("--home", type=Path, default=Path("paper-studies"), help="AIQ_HOME of the studies")
    data_dir = os.environ.get("AIQ_DATA_DIR")
    parser.add_argument("--data-dir", type=Path, default=Path(data_dir) if data_dir else None)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="edit every space")
    parser.add_argument("--output", type=Path, default=_DOCUMENT, help="the document")
    return parser


def _pieces(name: str, budget: str, edits: Sequence[str]) -> list[Piece]:
    """The searches of a claim under a budget."""
    return [
        replace(piece, edits=(*piece.edits, *BUDGETS[budget][piece.name], *edits))
        for piece in CLAIMS[name].pieces
        if piece.name in BUDGETS[budget]
    ]


def _state_cost(pieces: dict[str, Piece], budget: str, options: RunOptions) -> None:
    """Print how long the searches that are not finished take, on this machine."""
    hours = 0.0
    for piece in pieces.values():
        study = _study(piece, budget, options)
        if study is not None and study.document.ended == "finished":
            print(f"{piece.name}: finished", file=sys.stderr)
            continue
        expected = dry_run(piece.space, replace(options, overrides=piece.edits, address=None))
        hours += expected.expected_hours
        print(
            f"{piece.name}: {expected.trials:,} trainings, {expected.expected_hours:.2g} h", file=sys.stderr
        )
    print(f"together about {hours:.2g} h on this machine, if it does nothing else", file=sys.stderr)


def _study_id(piece: Piece, budget: str) -> str:
    edits = hashlib.sha256("\n".join(piece.edits).encode()).hexdigest()[:6]  # other edits, another study
    return f"paper-{budget}-{piece.name}-{edits}"


def _study(piece: Piece, budget: str, options: RunOptions) -> Study | None:
    """The study of a piece, if it was begun."""
    study_id = _study_id(piece, budget)
    there = (options.home / "studies" / study_id / "study.json").exists()
    return Study.open(study_id, options.home) if there else None


def _train(piece: Piece, budget: str, options: RunOptions) -> bool:
    """Begin or continue the study of a piece; whether it is finished then."""
    study, study_id = _study(piece, budget, options), _study_id(piece, budget)
    if study is not None and study.document.ended == "finished":
        return True
    if study is not None:
        return resume_search(study_id, options).reason == "finished"
    begun = replace(options, study_id=study_id, overrides=piece.edits)
    return run_search(piece.space, begun).reason == "finished"


if __name__ == "__main__":
    sys.exit(main())
