"""The fault table in the documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.faults.verdict import Verdict

__all__ = ["table", "write_table"]

_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"

_HEAD = (
    "| fault | times | finished before | lost | run twice | doubled in MLflow | left RUNNING | sampler state "
    "| also |\n|---|---:|---:|---:|---:|---:|---:|---|---|\n"
)


def table(verdicts: Sequence[Verdict], skipped: Mapping[str, str]) -> str:
    """The table in Markdown, a row a fault."""
    rows = [
        f"| {v.fault} | {v.times} | {v.before} | {v.lost} | {v.twice} | {v.doubled} | {v.running} "
        f"| {'right' if v.sampler else 'wrong'} | {v.note} |"
        for v in verdicts
    ]
    rows += [f"| {name} | 0 | | | | | | | not run: {reason} |" for name, reason in skipped.items()]
    return _HEAD + "\n".join(rows) + "\n"


def write_table(path: Path, verdicts: Sequence[Verdict], skipped: Mapping[str, str]) -> None:
    """Put the table between its marks in a file, and leave the rest of the file as it is."""
    text = path.read_text(encoding="utf-8")
    drawn = f"{_BEGIN}\n{table(verdicts, skipped)}{_END}"
    path.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: drawn, text, flags=re.DOTALL), encoding="utf-8")
