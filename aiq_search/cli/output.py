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

__all__ = ["configuration", "number", "print_json", "print_rows", "stderr", "stdout", "table"]


# Columns of words, which may stand on several lines.
_PROSE = ("configuration", "reason", "range", "when")
_PROSE_WIDTH = 24

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
        drawn.add_column(
            column,
            justify="right" if numeric else "left",
            min_width=_least_width(column, [row[index] for row in rows]),
            no_wrap=column not in _PROSE,
        )
    for row in rows:
        drawn.add_row(*(number(value) for value in row))
    return drawn


def _least_width(column: str, cells: Sequence[Any]) -> int:
    """Numbers and names are read and copied whole; only the words of a sentence may wrap."""
    longest = max(len(text) for text in (column, *map(number, cells)))
    return min(longest, _PROSE_WIDTH) if column in _PROSE else longest


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
        _print_table(rows, columns)


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print the columns that fit, the first ones first, and say which did not."""
    console = stdout()
    heads = [column.removeprefix("model.").removeprefix("training.") for column in columns]
    widths = [
        _least_width(head, [row.get(column) for row in rows])
        for head, column in zip(heads, columns, strict=True)
    ]
    fit = len(columns)
    while fit > 1 and sum(widths[:fit]) + 3 * fit + 1 > console.width:  # two of padding, one of border
        fit -= 1
    console.print(table(heads[:fit], [[row.get(column) for column in columns[:fit]] for row in rows]))
    if fit < len(columns):
        left_out = ", ".join(heads[fit:])
        stderr().print(f"No room for {left_out}: widen the terminal, or use --format csv.", markup=False)


def configuration(params: Mapping[str, Any]) -> str:
    """A configuration in one cell.

    >>> configuration({"model.hidden1": 16, "training.learning_rate": 0.01})
    'hidden1=16 learning_rate=0.0100'
    """
    return " ".join(f"{name.partition('.')[2]}={number(value)}" for name, value in params.items())
