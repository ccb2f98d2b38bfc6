"""Tables that fit where they are printed: they wrap or continue below a row, and leave nothing out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

__all__ = ["UNBROKEN", "Column", "Grid"]

# A space at which no line is broken; it is printed as any other.
UNBROKEN = "\u00a0"

_GAP = 2  # between two columns
_INDENT = 4  # of what continues below a row
_DOT = " · "  # between two values there

# Words wrap in a column that is at least so wide; in a narrower one they are hard to read.
_PROSE_WIDTH = 24

_BOLD, _DIM, _PLAIN = Style(bold=True), Style(dim=True), Style()


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Its name, which may wrap.
        cells: Its cells, one for each row.
        right: Whether they are aligned right, as numbers are.
        prose: Whether they may wrap, as sentences may; names and numbers are read and copied whole.
    """

    head: str
    cells: Sequence[str]
    right: bool = False
    prose: bool = False

    @property
    def widest(self) -> int:
        """How wide it is where nothing wraps."""
        return max(map(_width, (self.head, *self.cells)))

    @property
    def narrowest(self) -> int:
        """How narrow it may be: no word is ever broken."""
        head = _longest_word(self.head)
        if not self.prose:
            return max(head, *map(_width, self.cells))
        words = max(map(_longest_word, self.cells), default=0)
        return max(head, words, min(_PROSE_WIDTH, self.widest))


@dataclass(frozen=True)
class Grid:
    """A table as wide as it needs to be.

    Where it does not fit, heads and sentences wrap. Where that is not enough, the columns for which there is
    no room continue below each row, with their names.

    Args:
        columns: The columns, with the same number of cells.
        title: A line above the table.
    """

    columns: Sequence[Column]
    title: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line, style in self._lines(options.max_width):
            yield Segment(line.rstrip().replace(UNBROKEN, " "), style)
            yield Segment.line()
        yield Segment.line()

    def _lines(self, room: int) -> Iterator[tuple[str, Style]]:
        shown, below = self._split(room)
        widths = _fitted(shown, room)
        if self.title:
            yield f" {self.title}", _BOLD
        for line in _row([column.head for column in shown], shown, widths):
            yield line, _BOLD
        yield f" {'─' * (sum(widths) + _GAP * (len(widths) - 1))}", _DIM
        for number in range(len(self.columns[0].cells) if self.columns else 0):
            for line in _row([column.cells[number] for column in shown], shown, widths):
                yield line, _PLAIN
            for line in _continued(below, number, room):
                yield line, _PLAIN

    def _split(self, room: int) -> tuple[list[Column], list[Column]]:
        """The columns for which there is room, and the others."""
        if _needed(self.columns) <= room:
            return list(self.columns), []
        shown: list[Column] = []
        for column in self.columns:
            words = column.prose and column.widest > _PROSE_WIDTH
            if not shown or (not words and _needed([*shown, column]) <= room):
                shown.append(column)
        return shown, [column for column in self.columns if column not in shown]


def _needed(columns: Sequence[Column]) -> int:
    return 1 + sum(column.narrowest for column in columns) + _GAP * (len(columns) - 1)


def _fitted(columns: Sequence[Column], room: int) -> list[int]:
    """Widths that fit: the widest columns give way first."""
    least = [column.narrowest for column in columns]
    widths = [column.widest for column in columns]
    excess = 1 + sum(widths) + _GAP * (len(widths) - 1) - room
    for _ in range(excess):
        wider = [i for i, width in enumerate(widths) if width > least[i]]
        if not wider:
            break
        widths[max(wider, key=lambda i: widths[i])] -= 1
    return widths


def _row(texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> list[str]:
    wrapped = [_wrapped(text, width) for text, width in zip(texts, widths, strict=True)]
    return [
        " " + (" " * _GAP).join(
            _padded(part, column, width) for part, column, width in zip(parts, columns, widths, strict=True)
        )
        for parts in zip_longest(*wrapped, fillvalue="")
    ]  # fmt: skip


def _padded(text: str, column: Column, width: int) -> str:
    blank = " " * max(0, width - cell_len(text))
    return blank + text if column.right else text + blank


def _continued(columns: Sequence[Column], number: int, room: int) -> Iterator[str]:
    """What continues below a row: short values side by side, and each sentence from the start of a line."""
    width, line = room - _INDENT, ""
    filled = [(column, column.cells[number]) for column in columns if column.cells[number]]
    for column, cell in sorted(filled, key=lambda pair: pair[0].prose):
        text = f"{column.head}: {cell}" if column.prose else f"{column.head} {cell}"
        if line and cell_len(line) + cell_len(text) + len(_DOT) <= width:
            line += _DOT + text
            continue
        yield from (" " * _INDENT + part for part in (_wrapped(line, width) if line else ()))
        line = text
    yield from (" " * _INDENT + part for part in (_wrapped(line, width) if line else ()))


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _longest_word(text: str) -> int:
    return max(map(cell_len, _words(text)), default=0)


def _words(text: str) -> list[str]:
    return [word for line in text.split("\n") for word in line.split(" ") if word]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width``, broken at spaces alone: a longer word is a line of its own."""
    lines = []
    for whole in text.split("\n"):
        if cell_len(whole) <= width:
            lines.append(whole)
            continue
        line = ""
        for word in _words(whole):
            if line and cell_len(line) + 1 + cell_len(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return lines
