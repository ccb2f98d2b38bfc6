"""What a search found, on a page: as text, and as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from aiq_search.errors import StudyError
from aiq_search.study import Champion, Spread
from aiq_search.study.chance import chance_problem
from aiq_search.study.description import meaning
from aiq_search.study.finalist_rows import FinalistRow, finalist_rows
from aiq_search.study.finalists import verdicts_of
from aiq_search.study.metrics import HEADLINE
from aiq_search.study.progress import ranking
from aiq_search.terminal.text import number, plain
from aiq_search.words import shown

if TYPE_CHECKING:
    from aiq_search.app.result import SearchResult

__all__ = ["ResultSummary", "champion_title", "spread_text"]


def champion_title(champion: Champion) -> str:
    """What to call a champion; one that no fresh seed has confirmed is none."""
    if champion.judges:
        return f"Champion: trial {champion.trial}"
    return f"Best so far: trial {champion.trial}, on one seed; not confirmed on fresh seeds"


def spread_text(name: str, spread: Spread | None) -> str:
    """A number over seeds.

    >>> spread_text("aiq", Spread(0.81234, 0.0123, 3)), spread_text("aiq", Spread(0.5, 0.0, 1))
    ('0.8123 ± 0.0123', '0.5000')
    """
    return "" if spread is None else shown(name, spread.mean, spread.sd if spread.n > 1 else None)


@dataclass(frozen=True)
class ResultSummary:
    """What a search found.

    Attributes:
        title: The study, and how it ended.
        message: A sentence, where there is no champion, it is no better than chance, or the search stopped by
            itself.
        champion: What it is called.
        meaning: What aIQ means, in a sentence.
        params: The champion's configuration, as names and values.
        sizes: Its parameters and multiplications, as names and values.
        heads: Of the columns of ``numbers``.
        numbers: A row for each number: its name, its spread on the validation split, and on the test split.
        goal: The number by which finalists are compared.
        finalists: A row for each.
    """

    title: str
    message: str
    champion: str = ""
    meaning: str = ""
    params: Sequence[tuple[str, str]] = ()
    sizes: Sequence[tuple[str, str]] = ()
    heads: Sequence[str] = ()
    numbers: Sequence[Sequence[str]] = ()
    goal: str = ""
    finalists: Sequence[FinalistRow] = ()

    @classmethod
    def of(cls, result: SearchResult) -> ResultSummary:
        """The summary of a result, whose study may be gone by now."""
        title, message = f"SearchResult of {result.study.id}: {result.reason}", result.message or ""
        champion, space = result.champion, result.study.space
        if champion is None:
            return cls(title, message or "No champion.")
        message = message or chance_problem(result.study.document, champion) or ""
        try:
            finalists = finalist_rows(space, verdicts_of(result.study))
        except StudyError:
            finalists = []
        metrics = champion.record.metrics
        sizes = {"parameters": metrics["parameters"], "MACs": metrics["macs"]}
        names = [*HEADLINE, *(n for n in champion.validation if n not in (*HEADLINE, "objective"))]
        spreads = [champion.validation] + ([champion.test] if champion.test else [])
        goal = ranking(space.objective)[0]
        return cls(
            title,
            message,
            champion=champion_title(champion),
            meaning=meaning(space.objective),
            params=[(name, number(value)) for name, value in champion.params.items()],
            sizes=[(name, f"{size:,.0f}") for name, size in sizes.items()],
            heads=["", *map(_head, ("validation", "test"), [each["aiq"].n for each in spreads])],
            numbers=[[_label(n), *(spread_text(n, each.get(n)) for each in spreads)] for n in names],
            goal=_label(goal),
            finalists=finalists,
        )

    def text(self) -> str:
        """As lines of text, which cannot steer a terminal."""
        lines = [self.title, *filter(None, [self.message, self.champion])]
        lines += [f"  {name} = {value}" for name, value in (*self.params, *self.sizes)]
        lines += _table([self.heads, *self.numbers]) if self.numbers else []
        if self.finalists:
            head = ("trial", "configuration", "parameters", f"{self.goal}, mean ± sd", "fresh seeds", "why")
            rows = [(f.trial, f.configuration, f.parameters, f.mean, f.seeds, f.why) for f in self.finalists]
            lines += ["Finalists", *_table([head, *rows])]
        return "\n".join(plain(line) for line in lines)

    def html(self) -> str:
        """As HTML, in which everything that a file or a message says is text."""
        import jinja2

        template = files("aiq_search.app").joinpath("templates/result.html.jinja").read_text("utf-8")
        room = jinja2.Environment(
            autoescape=True, finalize=plain, trim_blocks=True, undefined=jinja2.StrictUndefined
        )
        return room.from_string(template).render(summary=self)


def _head(split: str, seeds: int) -> str:
    return f"{split}, {seeds} seed{'' if seeds == 1 else 's'}"


def _label(name: str) -> str:
    return "aIQ" if name == "aiq" else name


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
