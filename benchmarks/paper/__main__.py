"""Train what the claims of Schaub and Hotaling (2023) are about, and write what it shows.

    python -m benchmarks.paper size [--budget small] [--home paper-studies] [--data-dir DIR] [--address auto]
    python -m benchmarks.paper all --cost          # how long it would take, and nothing else

Each claim is one or several searches of the spaces in search_spaces/paper, under AIQ_HOME (--home), tracked
by MLflow like any other. The same command continues what was interrupted, and writes what is finished: a
section of docs/paper.md, its figure and its CSV. small is for two cores and a night, full is the paper's grid
and recipe; the cost is stated before anything is trained.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from aiq_search import run_search
from aiq_search.app import RunOptions, resume_search
from aiq_search.app.dry_run import dry_run
from aiq_search.app.look import trial_rows
from aiq_search.study import Study, TrialState
from benchmarks.paper.claims import BUDGETS, CLAIMS, Piece
from benchmarks.paper.document import write_section

_DOCUMENT = Path(__file__).parents[2] / "docs" / "paper.md"
_BY_EPOCH = ("memorisation",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments ask for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("claim", choices=[*CLAIMS, "all"])
    parser.add_argument("--budget", choices=BUDGETS, default="small")
    parser.add_argument("--cost", action="store_true", help="state the cost, and end")
    parser.add_argument("--address", help="a Ray cluster that this machine is a node of")
    parser.add_argument("--home", type=Path, default=Path("paper-studies"), help="AIQ_HOME of the studies")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("AIQ_DATA_DIR"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="edit every space")
    parser.add_argument("--output", type=Path, default=_DOCUMENT, help="the document")
    given = parser.parse_args(arguments)
    names = list(CLAIMS) if given.claim == "all" else [given.claim]
    options = RunOptions(home=given.home, data_dir=given.data_dir, address=given.address)
    pieces = {name: _pieces(name, given.budget, given.set) for name in names}
    _state_cost([piece for each in pieces.values() for piece in each], options)
    if given.cost:
        return 0
    for name in names:
        studies = {}
        for piece in pieces[name]:
            study = _trained(piece, given.budget, options)
            if study is None:
                print(f"interrupted; the same command continues {piece.name}", file=sys.stderr)
                return 130
            studies[piece.name] = study
        rows = epochs_of(studies) if name in _BY_EPOCH else trainings_of(studies)
        edits = "".join(f" --set {edit}" for edit in given.set)
        command = f"python -m benchmarks.paper {name} --budget {given.budget}{edits}"
        write_section(given.output, name, CLAIMS[name], command, rows, CLAIMS[name].judge(rows))
        print(f"{name}: written to {given.output}", file=sys.stderr)
    return 0


def _pieces(name: str, budget: str, edits: Sequence[str]) -> list[Piece]:
    """The searches of a claim under a budget; its studies are named after the claim, budget and piece."""
    return [
        replace(piece, name=f"{name}.{piece.name}", edits=(*piece.edits, *BUDGETS[budget][name], *edits))
        for piece in CLAIMS[name].pieces
    ]


def _state_cost(pieces: Sequence[Piece], options: RunOptions) -> None:
    """Print how long the searches take, on this machine."""
    hours = 0.0
    for piece in pieces:
        expected = dry_run(piece.space, replace(options, overrides=piece.edits, address=None))
        hours += expected.expected_hours
        cells = f"{expected.size:,} cells" if expected.size is not None else "very many cells"
        print(f"{piece.name}: {cells}, about {expected.expected_hours:.2g} h", file=sys.stderr)
    print(f"together about {hours:.2g} h on this machine, if it does nothing else", file=sys.stderr)


def _trained(piece: Piece, budget: str, options: RunOptions) -> Study | None:
    """The study of a piece, finished; None where it was interrupted."""
    edits = hashlib.sha256("\n".join(piece.edits).encode()).hexdigest()[:6]  # other edits, another study
    study_id = f"paper-{budget}-{piece.name.replace('.', '-').replace('_', '-')}-{edits}"
    if (options.home / "studies" / study_id).exists():
        study = Study.open(study_id, options.home)
        if study.document.ended == "finished":
            return study
        result = resume_search(study_id, options)
    else:
        result = run_search(piece.space, replace(options, study_id=study_id, overrides=piece.edits))
    return result.study if result.reason == "finished" else None


def trainings_of(studies: dict[str, Study]) -> pd.DataFrame:
    """A row for each training."""
    frames = []
    for name, study in studies.items():
        frame = pd.DataFrame(trial_rows(study))
        frame = frame[frame["state"] == str(TrialState.COMPLETE)]
        frames.append(_with_origin(frame, name, study))
    return pd.concat(frames, ignore_index=True)


def epochs_of(studies: dict[str, Study]) -> pd.DataFrame:
    """A row for each epoch of each training."""
    frames = []
    for name, study in studies.items():
        trials = {row["number"]: row["trial"] for row in trial_rows(study)}
        for record in study.records():
            if record.state is not TrialState.COMPLETE:
                continue
            frame = pd.DataFrame({"epoch": range(1, record.epochs + 1), **record.history})
            fixed = {"trial": trials[record.key.number], "replicate": record.replicate, "seed": record.seed}
            frames.append(_with_origin(frame.assign(**fixed, **record.params), name, study))
    return pd.concat(frames, ignore_index=True)


def _with_origin(frame: pd.DataFrame, name: str, study: Study) -> pd.DataFrame:
    """Rows with their piece, the widths of their network, and what made them."""
    widths = [
        column
        for column in frame.columns
        if column.startswith("model.") and column not in ("model.batch_norm", "model.dropout")
    ]
    made = study.document.provenance
    return frame.assign(
        piece=name.partition(".")[2],
        widths=frame[widths].astype(int).astype(str).agg("-".join, axis=1),
        version=made.versions.get("aiq-search"),
        torch=made.versions.get("torch"),
        git_commit=made.git_commit,
    )


if __name__ == "__main__":
    sys.exit(main())
