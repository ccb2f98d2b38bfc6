"""Results on stdout: as a table for people, as JSON or CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from aiq_search.cli.options import Format

__all__ = ["number", "print_json", "print_rows", "stderr", "stdout", "table"]


# Into a pipe or a file, a table is as wide as it needs to be.
_PIPE_WIDTH = 240


def stdout() -> Console:
    """Where the result goes."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def stderr() -> Console:
    """Where everything goes that is not the result."""
    return Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:  # noqa: ANN401
    """Print one JSON document."""
    print(json.dumps(document, indent=2, allow_nan=False))


def number(value: Any) -> str:  # noqa: ANN401
    """A value as a person reads it.

    >>> number(0.87654), number(12345), number(1e-05), number(None), number(True)
    ('0.8765', '12,345', '1e-05', '', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"
    return str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """A table whose numbers stand on the right."""
    drawn = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) for row in rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(number(value) for value in row))
    return drawn


def print_rows(rows: Sequence[Mapping[str, Any]], form: Format, columns: Sequence[str]) -> None:
    """Print rows; a table shows ``columns`` alone, JSON and CSV everything."""
    if form is Format.JSON:
        print_json(list(rows))
    elif form is Format.CSV:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(sys.stdout, fieldnames=names or list(columns))
        writer.writeheader()
        writer.writerows(rows)
    else:
        shown = [[row.get(column) for column in columns] for row in rows]
        heads = [column.removeprefix("model.").removeprefix("training.") for column in columns]
        stdout().print(table(heads, shown))
