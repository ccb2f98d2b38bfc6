"""The fault table: its rows as they come, and as they stand in the documentation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.verdict import Verdict

__all__ = ["Known", "table", "write_table"]

_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"

_HEAD = (
    "| fault | times | finished before | lost | run twice | doubled in MLflow | left RUNNING | sampler state "
    "| also |\n|---|---:|---:|---:|---:|---:|---:|---|---|\n"
)


class Known:
    """Rows that are finished, by name: a verdict, or why the row was not run.

    Args:
        path: Keeps them for a second call; None to keep nothing.
        conditions: What they were run under; rows of other conditions are not taken up.
    """

    def __init__(self, path: Path | None, conditions: str) -> None:
        self._path = path
        self._conditions = conditions
        self.rows: dict[str, Verdict | str] = {}
        if path is None or not path.is_file():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            kept = json.loads(line)
            if kept["conditions"] == conditions:
                row = kept["row"]
                self.rows[kept["name"]] = row if isinstance(row, str) else Verdict(**row)

    def add(self, name: str, row: Verdict | str) -> None:
        """Keep a row that has just finished."""
        self.rows[name] = row
        if self._path is not None:
            kept = row if isinstance(row, str) else vars(row)
            document = {"conditions": self._conditions, "name": name, "row": kept}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(document) + "\n")


def table(title: str, rows: Sequence[Verdict | str]) -> str:
    """The table in Markdown, a row a fault.

    Args:
        title: A line above it.
        rows: A verdict each, or why there is none.
    """
    lines = []
    for v in rows:
        if isinstance(v, str):
            lines.append(f"| {v} | 0 | | | | | | | |\n")
            continue
        state = "right" if v.sampler else "wrong"
        numbers = " | ".join(str(n) for n in (v.times, v.before, v.lost, v.twice, v.doubled, v.running))
        lines.append(f"| {v.fault} | {numbers} | {state} | {v.note} |\n")
    return f"{title}\n\n{_HEAD}{''.join(lines)}"


def write_table(path: Path, title: str, rows: Sequence[Verdict | str]) -> None:
    """Put the table between its marks in a file, and leave the rest of the file as it is."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    path.write_text(f"{before}{_BEGIN}\n{table(title, rows)}{_END}{after}", encoding="utf-8")
