"""The champion as a table, and beside the reference network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from aiq_search.app.summary import champion_title, spread_text
from aiq_search.cli.output import configuration, number
from aiq_search.cli.tables import UNBROKEN, Column, Grid
from aiq_search.study import Champion, Phase, Spread
from aiq_search.study.description import meaning
from aiq_search.study.document import DatasetDescription, StudyDocument
from aiq_search.study.finalist_rows import finalist_rows
from aiq_search.study.finalists import Verdict
from aiq_search.study.metrics import COSTS
from aiq_search.study.progress import ranking
from aiq_search.study.reference import Comparison
from aiq_search.words import compared, counted, shown

if TYPE_CHECKING:
    from aiq_search.space import SearchSpace

__all__ = ["champion_view", "comparison_view", "finalists_view"]


def _explored(name: str, value: float | None) -> str:
    return shown(name, value) if name in COSTS and value is not None else number(value)


def champion_view(
    document: StudyDocument,
    champion: Champion,
    comparison: Comparison | None,
    verdicts: Sequence[Verdict] = (),
    *,
    final: bool = True,
) -> Group:
    """A champion for people.

    Args:
        document: Of its study.
        champion: The champion.
        comparison: The champion beside the reference network; None where it is the most accurate itself.
        verdicts: How each finalist came out.
        final: Whether the comparison will not change: the reference network is not in training.
    """
    parts: list[RenderableType] = [
        Text(champion_title(champion), style="bold green"),
        Padding(Text(meaning(document.space.objective), style="dim"), (0, 0, 0, 2), expand=False),
        Padding(Text(configuration(champion.params, "  ")), (0, 0, 1, 2), expand=False),
        _numbers(champion, document.dataset),
    ]
    if champion.phase is Phase.CONFIRM and champion.collapse_rate:
        parts.append(Text(f"  {champion.collapse_rate:.0%} of its fresh seeds collapsed or failed.\n"))
    if verdicts:
        parts.append(finalists_view(document.space, verdicts))
    if not final:
        parts.append(Text("The reference network is trained now, to compare the champion with it."))
    elif comparison is None:
        parts.append(Text(f"The {champion.title} is also the most accurate network that was found."))
    else:
        parts.append(comparison_view(comparison))
    return Group(*parts)


# What decides is not the difference of the means beside it.
_RACED = (
    "The estimated lead over the champion, with its standard error, decides: it also counts what exploring "
    "showed, and similar networks."
)
_COMPARED = "The lead over the champion, with its standard error, decides."


def finalists_view(space: SearchSpace, verdicts: Sequence[Verdict]) -> Group:
    """The finalists, and why each won or lost."""
    name = ranking(space.objective)[0]
    goal = "aIQ" if name == "aiq" else name
    lead = "estimated lead ± error" if space.confirm.races else "lead ± error"
    heads = (
        *("trial", "configuration", "parameters", f"{goal}, mean ± sd", "fresh seeds", "feasible on"),
        *(lead, "why"),
    )
    words = ("configuration", "why")
    rows = [astuple(row) for row in finalist_rows(space, verdicts)]
    table = Grid(
        [
            Column(head, cells, right=head not in words, prose=head in words)
            for head, cells in zip(heads, zip(*rows, strict=True), strict=True)
        ],
        title="Finalists",
    )
    return Group(table, Text(f"{_RACED if space.confirm.races else _COMPARED}\n", style="dim"))


def _seeds(spreads: Mapping[str, Spread], kind: str = "") -> str:
    seeds = spreads["aiq"].n
    return f"{seeds} {kind}seed{'' if seeds == 1 else 's'}".replace(" ", UNBROKEN)


def _numbers(champion: Champion, dataset: DatasetDescription) -> Grid:
    """Explored, confirmed and test values: the drop from left to right is the winner's curse."""
    headline = ("aiq", "accuracy", "efficiency")
    names = (*headline, *(name for name in champion.validation if name not in (*headline, "objective")))
    majority = {split: dataset.majority(split) for split in ("validation", "test")}

    def column(head: str, cells: Sequence[str], split: str) -> Column:
        return Column(head, [*cells, number(majority[split])], right=True)

    columns = [
        Column("", ["aIQ", *names[1:], "accuracy of the commonest class"], prose=True),
        column(
            f"explored (1{UNBROKEN}seed)",
            [_explored(n, champion.explored.metrics.get(n)) for n in names],
            "validation",
        ),
    ]
    if champion.judges:
        spreads = champion.validation
        head = f"{'confirmed' if champion.phase is Phase.CONFIRM else 'mean'} ({_seeds(spreads)})"
        columns.append(column(head, [spread_text(n, spreads[n]) for n in names], "validation"))
    if champion.test:
        head = f"test ({_seeds(champion.test, 'further ')})"
        columns.append(column(head, [spread_text(n, champion.test.get(n)) for n in names], "test"))
    if majority["validation"] is None:
        columns = [replace(each, cells=each.cells[:-1]) for each in columns]
    return Grid(columns)


def comparison_view(comparison: Comparison, *, known: bool = False) -> Group:
    """The paper's headline: how much accuracy the champion gives up, and how much smaller it is.

    Args:
        comparison: The champion beside the reference network.
        known: Whether the champion was shown before, without it.
    """
    parts: list[Grid | Text] = [_sizes(comparison), Text(_headline(comparison))]
    if known:
        parts.insert(0, Text("Reference network", style="bold green"))
    return Group(*parts)


def _sizes(comparison: Comparison) -> Grid:
    """Accuracy and size of both, on the seeds that both have, or else when exploring."""
    explored = comparison.champion.explored
    records = (explored, comparison.reference)
    columns = [Column("", [comparison.champion.title, _name(comparison)], prose=True)]
    for name, head in (("aiq", "aIQ"), ("accuracy", "accuracy")):
        if comparison.confirmed:
            both = [comparison.spreads(r)[name] for r in (comparison.ours, comparison.theirs)]
            columns.append(Column(f"test {head}", [spread_text(name, each) for each in both], right=True))
        else:
            cells = [number(record.metrics[name]) for record in records]
            columns.append(Column(f"explored {head}", cells, right=True))
    heads = {"parameters": "parameters", "parameters_weights": "weights only", "macs": "MACs"}
    for name, head in heads.items():
        columns.append(Column(head, [f"{size:,.0f}" for size in comparison.size(name)], right=True))
    return Grid(columns)


def _name(comparison: Comparison) -> str:
    """The reference network in a word or two."""
    return f"{'reference, ' if comparison.confirmed else ''}{comparison.reference.name}"


def _headline(comparison: Comparison) -> str:
    title = comparison.champion.title
    size, weights = (compared(*comparison.size(name)) for name in ("parameters", "parameters_weights"))
    smaller = f"has {size} parameters ({weights}, counting only weights as in the paper)"
    if not comparison.confirmed:
        return (
            f"The {title} is {comparison.lost} accurate than the most accurate trial, "
            f"{comparison.reference.name}, and {smaller}. Both were trained on one seed."
        )
    seeds = counted(comparison.points.n, "fresh seed")
    return (
        f"The {title} is {comparison.lost} accurate than the reference network, the most accurate one found, "
        f"and {smaller}. Both were trained on the same {seeds} and measured on the test split."
    )
