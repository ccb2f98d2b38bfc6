"""The champion as a table, with the most accurate trial beside it."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from aiq_search.cli.output import number, table
from aiq_search.study import Champion, Phase, Spread, TrialRecord

__all__ = ["champion_view"]


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.mean:.4f} ± {spread.sd:.4f}" if spread.n > 1 else f"{spread.mean:.4f}"


def champion_view(champion: Champion, rival: TrialRecord | None) -> Group:
    """A champion for people.

    Args:
        champion: The champion.
        rival: The most accurate exploring trial.
    """
    widths = {name.partition(".")[2]: value for name, value in champion.params.items()}
    said = "  ".join(f"{name}={number(value)}" for name, value in widths.items())
    parts: list[Table | Text] = [
        Text(f"Champion: trial {champion.trial}", style="bold green"),
        Text(f"  {said}"),
        _numbers(champion),
    ]
    if rival is not None and rival.key.number != champion.trial:
        parts += [_beside(champion, rival), _headline(champion, rival)]
    return Group(*parts)


def _numbers(champion: Champion) -> Table:
    """Exploring value, confirmed value, headline: the winner's curse is what falls from left to right."""
    columns = ["", "explored (1 seed)"]
    confirmed = champion.phase is Phase.CONFIRM
    if confirmed:
        columns.append(f"confirmed ({champion.validation['aiq'].n} seeds)")
    if champion.test:
        columns.append(f"test ({champion.test['aiq'].n} further seeds)")
    rows = []
    for name, label in (("aiq", "aIQ"), ("accuracy", "accuracy"), ("efficiency", "efficiency")):
        row = [label, number(champion.explored.metrics[name])]
        if confirmed:
            row.append(_spread(champion.validation[name]))
        if champion.test:
            row.append(_spread(champion.test[name]))
        rows.append(row)
    drawn = table(columns, rows)
    for column in drawn.columns[1:]:
        column.justify = "right"
    if confirmed and champion.collapse_rate:
        drawn.caption = f"{champion.collapse_rate:.0%} of its fresh seeds collapsed or failed."
        drawn.caption_justify = "left"
    return drawn


def _beside(champion: Champion, rival: TrialRecord) -> Table:
    rows = [
        [who, record.metrics["aiq"], record.metrics["accuracy"], *_sizes(record)]
        for who, record in (("champion", champion.explored), (f"trial {rival.key.number}", rival))
    ]
    columns = ["explored", "aIQ", "accuracy", "parameters", "weights only", "MACs"]
    return table(columns, rows)


def _sizes(record: TrialRecord) -> list[int]:
    return [int(record.metrics[name]) for name in ("parameters", "parameters_weights", "macs")]


def _headline(champion: Champion, rival: TrialRecord) -> Text:
    """The paper's headline: points of accuracy lost, times fewer parameters in both conventions."""
    lost = 100 * (rival.metrics["accuracy"] - champion.explored.metrics["accuracy"])
    ours, theirs = _sizes(champion.explored), _sizes(rival)
    return Text(
        f"The champion is {lost:.2f} points less accurate than the most accurate trial, "
        f"{rival.key.number}, with {theirs[0] / ours[0]:,.1f} times fewer parameters "
        f"({theirs[1] / ours[1]:,.1f} times, counting weights alone as the paper does)."
    )
