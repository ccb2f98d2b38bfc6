"""What is printed: results on stdout, everything else on stderr; nothing of it can steer the terminal.

Names, reasons and messages come from files, networks and other programs. Wherever they are printed, control
characters are shown instead of sent, and what is long is shortened.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from aiq_search.cli.options import Format
from aiq_search.cli.tables import Column, Grid

__all__ = [
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

# Characters that are printed of a message, and of a value in a table.
_LONGEST = 4000
_LONGEST_VALUE = 1000

# What is shown instead of sent: C0 and C1 controls but line ends and tabs, what reorders text or separates
# lines, and halves of surrogate pairs, which cannot be encoded.
_SHOWN = [
    *range(0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    0x61C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
    *range(0xD800, 0xE000),
]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _SHOWN}


def plain(text: str, longest: int | None = _LONGEST) -> str:
    r"""Text from anywhere as it can be printed: control characters are escaped, and its middle is cut out.

    >>> plain("\x1b[31mred"), plain("abcdefghij" * 1000, longest=20)
    ('\\x1b[31mred', 'abcdefghijabcd … (9,980 characters) … efghij')
    """
    if longest is not None and len(text) > longest:
        tail = longest // 3
        head = longest - tail
        cut = len(text) - head - tail
        text = f"{text[:head]} … ({cut:,} characters) … {text[len(text) - tail :]}"
    return text.translate(_ESCAPES)


class _SafeConsole(Console):
    """A console that sends its own control sequences and no others, whatever it is given to print.

    Nor does it read markup or names of emoji: a file's "[bold]" is text.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(segment.text.translate(_ESCAPES), segment.style)


def stdout() -> Console:
    """Where the result goes."""
    console = _SafeConsole()
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return _SafeConsole(width=_PIPE_WIDTH)


def stderr() -> Console:
    """Where everything goes that is not the result."""
    return _SafeConsole(stderr=True)


def show(*parts: RenderableType) -> None:
    """Print tables and texts below each other; a word that is too long for a line stays whole."""
    stdout().print(*parts, sep="\n", crop=False)


def print_line(line: object) -> None:
    """Print a line of the result."""
    print(plain(str(line)), flush=True)


def print_message(message: object) -> None:
    """Print a message that is not the result; a file's or another program's words may be in it."""
    stderr().print(plain(str(message)), soft_wrap=True)


def print_error(error: Exception) -> None:
    """Print an error that a command ends with."""
    print(f"aiq: {plain(str(error))}", file=sys.stderr)


def print_log(text: str) -> None:
    """Print a part of another program's log, whole."""
    sys.stdout.write(plain(text, longest=None))
    sys.stdout.flush()


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_message(self.format(record))


def use_for_logging() -> None:
    """Have this package's warnings printed like every other message."""
    logger = logging.getLogger("aiq_search")
    if not any(isinstance(handler, _Handler) for handler in logger.handlers):
        logger.addHandler(_Handler(logging.WARNING))


def print_json(document: Any) -> None:  # noqa: ANN401
    """Print one JSON document; the encoder escapes what is not ASCII."""
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
    return plain(str(value), _LONGEST_VALUE)


def configuration(params: Mapping[str, Any], separator: str = " ") -> str:
    """A configuration in one cell.

    >>> configuration({"model.hidden1": 16, "training.learning_rate": 0.01})
    'hidden1=16 learning_rate=0.0100'
    """
    return separator.join(
        f"{plain(name.partition('.')[2], _LONGEST_VALUE)}={number(value)}" for name, value in params.items()
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Grid:
    """A table for people, its numbers aligned right."""
    cells = [[row[index] for row in rows] for index in range(len(columns))]
    return Grid(
        [
            Column(
                plain(head, _LONGEST_VALUE),
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
