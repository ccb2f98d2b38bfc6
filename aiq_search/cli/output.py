"""What is printed: results on stdout, everything else on stderr; nothing of it can steer the terminal."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType

from aiq_search.cli.options import Format
from aiq_search.cli.tables import Column, Grid
from aiq_search.terminal.text import LONGEST_VALUE, SafeConsole, configuration, number, plain, stderr

__all__ = [
    "ask",
    "configuration",
    "number",
    "plain",
    "print_error",
    "print_json",
    "print_line",
    "print_log",
    "print_message",
    "print_rows",
    "show",
    "stderr",
    "stdout",
    "table",
    "use_for_logging",
]

# Columns of words, which may take several lines.
_PROSE = frozenset(
    {"configuration", "detail", "message", "note", "range", "reason", "remedy", "what", "when", "why"}
)

# Columns of what is not a terminal, unless COLUMNS names another number: a row is a line, for grep.
_PIPE_WIDTH = 240


def stdout() -> Console:
    """Where the result goes."""
    console = SafeConsole()
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return SafeConsole(width=_PIPE_WIDTH)


def show(*parts: RenderableType) -> None:
    """Print tables and texts below each other; a word that is too long for a line stays whole."""
    stdout().print(*parts, sep="\n", crop=False)


def ask(question: str) -> bool | None:
    """Ask a yes-or-no question on stderr; None where nobody answers, as without a terminal."""
    import typer

    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        print_message("")  # ends the line of the question
        return None


def print_line(line: object) -> None:
    """Print a line of the result."""
    print(plain(str(line)), flush=True)


def print_message(message: object) -> None:
    """Print a message that is not the result; a file's or another program's words may be in it.

    On a terminal it wraps between words; elsewhere a line stays a line, for grep.
    """
    console = stderr()
    console.print(plain(str(message)), soft_wrap=not console.is_terminal)


def print_error(error: Exception) -> None:
    """Print an error that a command ends with."""
    print_message(f"aiq: {error}")


def print_log(text: str) -> None:
    """Print a part of another program's log, whole."""
    sys.stdout.write(plain(text, longest=None))
    sys.stdout.flush()


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_message(self.format(record))


def use_for_logging() -> None:
    """Have what this package logs printed like every other message."""
    logger = logging.getLogger("aiq_search")
    if not any(isinstance(handler, _Handler) for handler in logger.handlers):
        logger.addHandler(_Handler(logging.INFO))
        logger.setLevel(logging.INFO)


def print_json(document: Any) -> None:  # noqa: ANN401
    """Print one JSON document; the encoder escapes what is not ASCII."""
    print(json.dumps(document, indent=2, allow_nan=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Grid:
    """A table for people, its numbers aligned right."""
    cells = [[row[index] for row in rows] for index in range(len(columns))]
    return Grid(
        [
            Column(
                plain(head, LONGEST_VALUE),
                [number(value) for value in column],
                right=any(isinstance(value, int | float) for value in column),
                prose=head in _PROSE,
            )
            for head, column in zip(columns, cells, strict=True)
        ],
        title,
    )


def print_rows(rows: Sequence[Mapping[str, Any]], form: Format, columns: Sequence[str]) -> None:
    """Print rows; a table shows ``columns`` alone, JSON and CSV everything."""
    if form is Format.JSON:
        print_json(list(rows))
    elif form is Format.CSV:
        names = list(dict.fromkeys(name for row in rows for name in row)) or list(columns)
        writer = csv.writer(sys.stdout)
        writer.writerow([plain(name, None) for name in names])
        writer.writerows([_csv_value(row.get(name, "")) for name in names] for row in rows)
    else:
        _print_table(rows, columns)


def _csv_value(value: Any) -> Any:  # noqa: ANN401
    return value if value is None or isinstance(value, bool | int | float) else plain(str(value), None)


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    heads = [column.removeprefix("model.").removeprefix("training.") for column in columns]
    show("", table(heads, [[row.get(column) for column in columns] for row in rows]))
