"""The champion as a table, compared with the most accurate trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from aiq_search.cli.output import configuration, number, table
from aiq_search.cli.tables import Column, Grid
from aiq_search.study import Champion, Phase, Spread, TrialRecord
from aiq_search.study.document import DatasetDescription, StudyDocument
from aiq_search.study.finalist_rows import finalist_rows
from aiq_search.study.finalists import Verdict
from aiq_search.study.progress import ranking
from aiq_search.words import compared

if TYPE_CHECKING:
    from aiq_search.space import SearchSpace

__all__ = ["champion_view", "finalists_view"]


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.mean:.4f} ± {spread.sd:.4f}" if spread.n > 1 else f"{spread.mean:.4f}"


def champion_view(
    document: StudyDocument,
    champion: Champion,
    rival: TrialRecord | None,
    verdicts: Sequence[Verdict] = (),
) -> Group:
    """A champion for people.

    Args:
        document: Of its study.
        champion: The champion.
        rival: The most accurate exploring trial.
        verdicts: How each finalist came out.
    """
    parts: list[Grid | Text] = [
        Text(_title(champion), style="bold green"),
        Text(f"  {configuration(champion.params, '  ')}\n"),
        _numbers(champion, document.dataset),
    ]
    if champion.phase is Phase.CONFIRM and champion.collapse_rate:
        parts.append(Text(f"  {champion.collapse_rate:.0%} of its fresh seeds collapsed or failed.\n"))
    if verdicts:
        parts.append(finalists_view(document.space, verdicts))
    if rival is not None and rival.key.number != champion.trial:
        parts += [_comparison(champion, rival), _headline(champion, rival)]
    return Group(*parts)


def finalists_view(space: SearchSpace, verdicts: Sequence[Verdict]) -> Grid:
    """The finalists, and why each won or lost."""
    name = ranking(space.objective)[0]
    mean = f"mean {'aIQ' if name == 'aiq' else name}"
    heads = ("trial", "configuration", "parameters", mean, "fresh seeds", "feasible on", "lead", "why")
    words = ("configuration", "why")
    rows = [astuple(row) for row in finalist_rows(space, verdicts)]
    return Grid(
        [
            Column(head, cells, right=head not in words, prose=head in words)
            for head, cells in zip(heads, zip(*rows, strict=True), strict=True)
        ],
        title="Finalists",
    )


def _short_title(champion: Champion) -> str:
    return "champion" if champion.judges else "best so far"


def _title(champion: Champion) -> str:
    if champion.judges:
        return f"Champion: trial {champion.trial}"
    return f"Best so far: trial {champion.trial}, on one seed; not confirmed on fresh seeds"


def _seeds(spreads: Mapping[str, Spread], kind: str = "") -> str:
    seeds = spreads["aiq"].n
    return f"{seeds} {kind}seed{'' if seeds == 1 else 's'}"


def _numbers(champion: Champion, dataset: DatasetDescription) -> Grid:
    """Explored, confirmed and test values: the drop from left to right is the winner's curse."""
    headline = ("aiq", "accuracy", "efficiency")
    names = (*headline, *(name for name in champion.validation if name not in (*headline, "objective")))
    majority = {split: dataset.majority(split) for split in ("validation", "test")}

    def column(head: str, cells: Sequence[str], split: str) -> Column:
        return Column(head, [*cells, number(majority[split])], right=True)

    columns = [
        Column("", ["aIQ", *names[1:], "accuracy of the commonest class"], prose=True),
        column("explored (1 seed)", [number(champion.explored.metrics.get(n)) for n in names], "validation"),
    ]
    if champion.phase is Phase.CONFIRM:
        spreads = champion.validation
        head = f"confirmed ({_seeds(spreads)})"
        columns.append(column(head, [_spread(spreads[n]) for n in names], "validation"))
    if champion.test:
        head = f"test ({_seeds(champion.test, 'further ')})"
        columns.append(column(head, [_spread(champion.test[n]) for n in names], "test"))
    if majority["validation"] is None:
        columns = [replace(each, cells=each.cells[:-1]) for each in columns]
    return Grid(columns)


def _comparison(champion: Champion, rival: TrialRecord) -> Grid:
    rows = [
        [who, record.metrics["aiq"], record.metrics["accuracy"], *_sizes(record)]
        for who, record in ((_short_title(champion), champion.explored), (f"trial {rival.key.number}", rival))
    ]
    columns = ["explored", "aIQ", "accuracy", "parameters", "weights only", "MACs"]
    return table(columns, rows)


def _sizes(record: TrialRecord) -> list[int]:
    return [int(record.metrics[name]) for name in ("parameters", "parameters_weights", "macs")]


def _headline(champion: Champion, rival: TrialRecord) -> Text:
    """The paper's headline: accuracy given up for a smaller network, counted in both conventions."""
    points = 100 * (rival.metrics["accuracy"] - champion.explored.metrics["accuracy"])
    ours, theirs = _sizes(champion.explored), _sizes(rival)
    size, weights = compared(ours[0], theirs[0]), compared(ours[1], theirs[1])
    return Text(
        f"The {_short_title(champion)} is {points:.2f} percentage points less accurate than the most "
        f"accurate trial, {rival.key.number}, and has {size} parameters ({weights}, counting only weights as "
        "in the paper)."
    )
