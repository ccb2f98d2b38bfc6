"""The fault table in the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.faults.verdict import Verdict

__all__ = ["table", "write_table"]

_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"

_HEAD = (
    "| fault | times | finished before | lost | run twice | doubled in MLflow | left RUNNING | sampler state "
    "| also |\n|---|---:|---:|---:|---:|---:|---:|---|---|\n"
)


def table(verdicts: Sequence[Verdict], skipped: Mapping[str, str], known: str = "") -> str:
    """The table in Markdown, a row a fault.

    Args:
        verdicts: The rows that were run.
        skipped: Rows that were not, and why.
        known: A table of before; its other rows are kept.
    """
    rows = {line.split("|")[1].strip(): line for line in known.splitlines()[2:] if line.startswith("|")}
    for v in verdicts:
        state = "right" if v.sampler else "wrong"
        numbers = " | ".join(str(n) for n in (v.times, v.before, v.lost, v.twice, v.doubled, v.running))
        rows[v.fault] = f"| {v.fault} | {numbers} | {state} | {v.note} |"
    for name, reason in skipped.items():
        rows[name] = f"| {name} | 0 | | | | | | | not run: {reason} |"
    return _HEAD + "\n".join(rows.values()) + "\n"


def write_table(path: Path, verdicts: Sequence[Verdict], skipped: Mapping[str, str]) -> None:
    """Renew rows of the table between its marks in a file, and leave the rest of the file as it is."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    known, _, after = rest.partition(_END)
    drawn = table(verdicts, skipped, known.strip())
    path.write_text(f"{before}{_BEGIN}\n{drawn}{_END}{after}", encoding="utf-8")
