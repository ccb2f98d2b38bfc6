"""The champion as a table, compared with the most accurate trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from aiq_search.cli.output import configuration, number, table
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
    parts: list[Table | Text] = [
        Text(_title(champion), style="bold green"),
        Text(f"  {configuration(champion.params, '  ')}"),
        _numbers(champion, document.dataset),
    ]
    if verdicts:
        parts.append(finalists_view(document.space, verdicts))
    if rival is not None and rival.key.number != champion.trial:
        parts += [_comparison(champion, rival), _headline(champion, rival)]
    return Group(*parts)


def finalists_view(space: SearchSpace, verdicts: Sequence[Verdict]) -> Table:
    """The finalists and why each won or lost; its cells wrap where the terminal is narrow."""
    drawn = Table(box=box.SIMPLE_HEAD, title="Finalists", title_justify="left", title_style="bold")
    columns = ("trial", "configuration", "parameters", f"mean {ranking(space.objective)[0]}", "fresh seeds")
    for column in (*columns, "feasible on", "lead"):
        drawn.add_column(column, overflow="fold", justify="left" if column == "configuration" else "right")
    drawn.add_column("why", overflow="fold")
    for row in finalist_rows(space, verdicts):
        drawn.add_row(*astuple(row))
    return drawn


def _short_title(champion: Champion) -> str:
    return "champion" if champion.judges else "best so far"


def _title(champion: Champion) -> str:
    if champion.judges:
        return f"Champion: trial {champion.trial}"
    return f"Best so far: trial {champion.trial}, on one seed; not confirmed on fresh seeds"


def _seeds(spreads: Mapping[str, Spread], kind: str = "") -> str:
    seeds = spreads["aiq"].n
    return f"{seeds} {kind}seed{'' if seeds == 1 else 's'}"


def _numbers(champion: Champion, dataset: DatasetDescription) -> Table:
    """Explored, confirmed and test values: the drop from left to right is the winner's curse."""
    columns = ["", "explored (1 seed)"]
    confirmed = champion.phase is Phase.CONFIRM
    if confirmed:
        columns.append(f"confirmed ({_seeds(champion.validation)})")
    if champion.test:
        columns.append(f"test ({_seeds(champion.test, 'further ')})")
    rows = []
    for name, label in (("aiq", "aIQ"), ("accuracy", "accuracy"), ("efficiency", "efficiency")):
        row = [label, number(champion.explored.metrics[name])]
        if confirmed:
            row.append(_spread(champion.validation[name]))
        if champion.test:
            row.append(_spread(champion.test[name]))
        rows.append(row)
    majority, on_test = dataset.majority("validation"), dataset.majority("test")
    if majority is not None:
        row = ["accuracy of the commonest class", *[number(majority)] * (2 if confirmed else 1)]
        if champion.test:
            row.append(number(on_test))
        rows.append(row)
    drawn = table(columns, rows)
    for column in drawn.columns[1:]:
        column.justify = "right"
    if confirmed and champion.collapse_rate:
        drawn.caption = f"{champion.collapse_rate:.0%} of its fresh seeds collapsed or failed."
        drawn.caption_justify = "left"
    return drawn


def _comparison(champion: Champion, rival: TrialRecord) -> Table:
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
