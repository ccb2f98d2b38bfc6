"""The champion as a table, compared with the most accurate trial."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from aiq_search.cli.output import configuration, number, table
from aiq_search.study import Champion, Phase, Spread, TrialRecord
from aiq_search.words import compared

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
    parts: list[Table | Text] = [
        Text(f"Champion: trial {champion.trial}", style="bold green"),
        Text(f"  {configuration(champion.params, '  ')}"),
        _numbers(champion),
    ]
    if rival is not None and rival.key.number != champion.trial:
        parts += [_comparison(champion, rival), _headline(champion, rival)]
    return Group(*parts)


def _seeds(spreads: Mapping[str, Spread], kind: str = "") -> str:
    seeds = spreads["aiq"].n
    return f"{seeds} {kind}seed{'' if seeds == 1 else 's'}"


def _numbers(champion: Champion) -> Table:
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
        for who, record in (("champion", champion.explored), (f"trial {rival.key.number}", rival))
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
        f"The champion is {points:.2f} percentage points less accurate than the most accurate trial, "
        f"{rival.key.number}, and has {size} parameters ({weights}, counting only weights as in the paper)."
    )
