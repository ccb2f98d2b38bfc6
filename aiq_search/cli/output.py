"""What is printed: results on stdout, everything else on stderr; nothing of it can steer the terminal.

Names, reasons and messages come from files, networks and other programs. Wherever they are printed, control
characters are shown instead of sent, and what is long is shortened.
"""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from aiq_search.cli.options import Format

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
    "stderr",
    "stdout",
    "table",
    "use_for_logging",
]

# Columns of words, which may take several lines.
_PROSE = ("configuration", "reason", "range", "when", "what", "remedy", "detail")
_PROSE_WIDTH = 24

# From so many rows on, a table is printed line by line.
_MANY_ROWS = 200

# Into a pipe or a file, a table is as wide as it needs to be.
_PIPE_WIDTH = 240

# Characters that are printed of a message, and of a value in a table.
_LONGEST = 4000
_LONGEST_VALUE = 500

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
    return console if console.is_terminal else _SafeConsole(width=_PIPE_WIDTH)


def stderr() -> Console:
    """Where everything goes that is not the result."""
    return _SafeConsole(stderr=True)


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


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """A table with its numbers aligned right."""
    columns = [plain(column, _LONGEST_VALUE) for column in columns]
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
        names = list(dict.fromkeys(name for row in rows for name in row)) or list(columns)
        writer = csv.writer(sys.stdout)
        writer.writerow([plain(name, None) for name in names])
        writer.writerows([_csv_value(row.get(name, "")) for name in names] for row in rows)
    else:
        _print_table(rows, columns)


def _csv_value(value: Any) -> Any:  # noqa: ANN401
    return value if value is None or isinstance(value, bool | int | float) else plain(str(value), None)


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print the columns that fit, the first ones first, and name those that do not."""
    console = stdout()
    heads = [column.removeprefix("model.").removeprefix("training.") for column in columns]
    widths = [
        _least_width(head, [row.get(column) for row in rows])
        for head, column in zip(heads, columns, strict=True)
    ]
    fit = len(columns)
    while fit > 1 and sum(widths[:fit]) + 3 * fit + 1 > console.width:  # two of padding, one of border
        fit -= 1
    shown = [[row.get(column) for column in columns[:fit]] for row in rows]
    if len(rows) < _MANY_ROWS:
        console.print(table(heads[:fit], shown))
    else:
        _print_long_table(console, heads[:fit], widths[:fit], shown)
    if fit < len(columns):
        print_message(f"No room for {', '.join(heads[fit:])}: widen the terminal, or use --format csv.")


def _print_long_table(
    console: Console, heads: Sequence[str], widths: Sequence[int], rows: Sequence[Sequence[Any]]
) -> None:
    """Print a table like ``table``, line by line: rich takes a millisecond for each row."""
    cells = [[number(value) for value in row] for row in rows]
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(heads))]
    room = console.width - sum(widths) - 3 * len(heads) - 1
    wide = []
    for i, (head, width) in enumerate(zip(heads, widths, strict=True)):
        longest = max(cell_len(text) for text in (head, *(row[i] for row in cells)))
        more = min(max(0, room), longest - width) if head in _PROSE else 0  # words take what room is left
        room -= more
        wide.append(width + more)

    def line(texts: Sequence[str]) -> str:
        padded = (
            " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)
            for text, width, right in zip(texts, wide, numeric, strict=True)
        )
        return f"  {'   '.join(padded)}".rstrip()

    lines = [line(heads), f" {'─' * (sum(wide) + 3 * len(wide) - 1)}"]
    for row in cells:
        if all(cell_len(text) <= width and "\n" not in text for text, width in zip(row, wide, strict=True)):
            lines.append(line(row))
        else:
            wrapped = [
                [part for whole in text.split("\n") for part in wrap(whole, width) or [""]]
                for text, width in zip(row, wide, strict=True)
            ]
            lines += map(line, zip_longest(*wrapped, fillvalue=""))
    console.out("\n".join(("", *lines, "")), highlight=False)
