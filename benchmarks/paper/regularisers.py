"""Batch norm and dropout: efficiency with them less that without, seed by seed, however it is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from benchmarks.paper.drawing import Panel, distinct, figure
from benchmarks.paper.rows import Evidence, effect
from benchmarks.paper.verdicts import Judgement

__all__ = ["PAPERS_RECIPE", "judge"]

# The piece that is trained with the paper's own recipe where the others are not.
PAPERS_RECIPE = "papers-recipe-300-100"

_KINDS = ("batch norm", "dropout")
_WAY = ["mode", "point", "observations"]


def judge(evidence: Evidence) -> Judgement:
    """Whether either raises the efficiency: at the paper's capture point, and measured in other ways."""
    rows = evidence.rows
    table = pd.DataFrame(_effects(rows[rows["piece"] != PAPERS_RECIPE]))
    papers = pd.DataFrame(_effects(rows[rows["piece"] == PAPERS_RECIPE]))
    counts, verdicts = {kind: _counts(table, kind) for kind in _KINDS}, {}
    for kind, (number, raised, lowered) in counts.items():
        verdicts[kind] = _verdict(number, raised, lowered)
    shares = {kind: _share(*count) for kind, count in counts.items()}
    measured = evidence.measured
    ways = _by_way(None if measured is None else measured[measured["piece"] != PAPERS_RECIPE])
    worst = min(verdicts.values(), key=["contradicted", "not seen", "partly", "reproduced"].index)
    short = "; ".join(f"{kind}: {verdict} ({shares[kind]})" for kind, verdict in verdicts.items())
    ours = f"{short}. {_reasons(ways, verdicts)}{_with_papers_recipe(papers, verdicts)}"
    caption = (
        "Efficiency with batch norm or dropout less that without, at the output of the hidden layers in "
        "evaluation mode: mean and standard deviation over the same seeds, a comparison for each network and "
        "width (named below by its widths). Above the line it was raised."
    )
    tables = {"Paired by seed (sign: differs from 0 at 5 %)": table}
    if len(ways):
        tables["The same networks, measured in other ways (means over networks and rates)"] = ways
    if len(papers):
        tables["Trained with the paper's own recipe, paired by seed"] = papers
    return Judgement(worst, short, ours, tables, _figure(table), caption)


def _counts(table: pd.DataFrame, kind: str) -> tuple[int, int, int]:
    """Comparisons of a regulariser, and in how many it raised and lowered the efficiency."""
    signs = table[table["with"].str.startswith(kind)]["sign"]
    return len(signs), int((signs > 0).sum()), int((signs < 0).sum())


def _share(number: int, raised: int, lowered: int) -> str:
    return f"raised in {raised} and lowered in {lowered} of {number} comparisons"


def _verdict(number: int, raised: int, lowered: int) -> str:
    if raised == number > 0:
        return "reproduced"
    if raised > lowered:
        return "partly"
    return "contradicted" if lowered > raised else "not seen"


def _effects(rows: pd.DataFrame) -> Iterator[dict[str, object]]:
    """What a regulariser changed, for each network and rate."""
    for (piece, widths), cells in rows.groupby(["piece", "widths"], sort=False):
        norm, rate = cells["model.batch_norm"].astype(bool), cells["model.dropout"].astype(float)
        without = cells[~norm & (rate == 0)].set_index("seed")["efficiency"]
        changes = {"batch norm": norm & (rate == 0)}
        changes |= {f"dropout {each:g}": (rate == each) & ~norm for each in sorted(set(rate) - {0.0})}
        for name, changed in changes.items():
            gained = (cells[changed].set_index("seed")["efficiency"] - without).dropna()
            if len(gained):
                network = "LeNet-300-100" if piece.endswith("300-100") else "LeNet-5"
                found = {"network": f"{network} {widths}", "with": name, "without": without.mean()}
                yield found | effect(gained)


def _by_way(measured: pd.DataFrame | None) -> pd.DataFrame:
    """How often each way to measure the same networks shows a gain or a loss."""
    if measured is None or not len(measured):
        return pd.DataFrame()
    found = []
    for way, rows in measured.groupby(_WAY, sort=False):
        effects = pd.DataFrame(_effects(rows))
        for kind in _KINDS:
            of = effects[effects["with"].str.startswith(kind)] if len(effects) else effects
            if len(of):
                counts = dict(zip(("comparisons", "raised", "lowered"), _counts(effects, kind), strict=True))
                gain = {"with": kind, "mean gain": of["mean"].mean()}
                found.append(dict(zip(_WAY, way, strict=True)) | gain | counts)
    return pd.DataFrame(found)


def _reasons(ways: pd.DataFrame, verdicts: dict[str, str]) -> str:
    """For what is not reproduced, in which ways of measuring it would be."""
    if not len(ways):
        return "The networks were not measured in other ways."
    sentences = []
    for kind, verdict in verdicts.items():
        of = ways[ways["with"] == kind]
        agree = of[of["raised"] > of["lowered"]].sort_values("raised", ascending=False, kind="stable")
        named = [
            f"in {w['mode']} mode at the {w['point']} on {w['observations']:,} images "
            f"({_share(w['comparisons'], w['raised'], w['lowered'])})"
            for w in agree.to_dict("records")
        ]
        if verdict in ("reproduced", "partly"):
            sentences += [f"{kind.capitalize()} raises it most often {named[0]}."] if named else []
        elif named:
            sentences.append(
                f"A possible reason for {kind}: measured {'; '.join(named)}, it is raised more often "
                "than lowered; in no other of the ways below."
            )
        else:
            modes, points = (", ".join(sorted(set(of[name]))) for name in ("mode", "point"))
            numbers = ", ".join(f"{n:,}" for n in sorted(set(of["observations"])))
            sentences.append(
                f"No way to measure shows {kind} raising the efficiency more often than lowering it: "
                f"the mode ({modes}), the capture point ({points}) and the number of observations "
                f"({numbers}) are ruled out as the reason."
            )
    if sentences:
        sentences.append("Wider networks were not tried, and are not ruled out.")
    return " ".join(sentences)


def _with_papers_recipe(papers: pd.DataFrame, verdicts: dict[str, str]) -> str:
    """What the paper's recipe changes, where the other trainings have a shorter one."""
    if not len(papers):
        return ""
    counts = {kind: _counts(papers, kind) for kind in _KINDS}
    found = "; ".join(f"{kind} {_share(*count)}" for kind, count in counts.items())
    same = [
        kind
        for kind, count in counts.items()
        if verdicts[kind] == "contradicted" and _verdict(*count) == "contradicted"
    ]
    ruled_out = f" It is ruled out as the reason for {' and '.join(same)}." if same else ""
    return f" LeNet-300-100, trained with the paper's own recipe: {found}.{ruled_out}"


def _figure(table: pd.DataFrame) -> str:
    spread = math.ceil(10 * (table["mean"].abs() + table["sd"].fillna(0)).max() + 0.1) / 10
    names = list(dict.fromkeys(table["network"]))
    kinds = list(dict.fromkeys(table["with"]))
    panel = Panel(
        "Efficiency gained by batch norm and dropout",
        "",
        "efficiency gained",
        (-0.5, len(names) - 0.5),
        (-spread, spread),
        wide=True,
        names=dict(enumerate(names)),
    )
    panel.line([(-0.5, 0), (len(names) - 0.5, 0)], "#888", dashed=True)
    for row in table.to_dict("records"):
        kind = kinds.index(row["with"])
        x = names.index(row["network"]) + 0.2 * (kind - (len(kinds) - 1) / 2)
        panel.line([(x, row["mean"] - row["sd"]), (x, row["mean"] + row["sd"])], distinct(kind))
        panel.dot(x, row["mean"], distinct(kind), size=4)
    return figure([panel], {kind: distinct(number) for number, kind in enumerate(kinds)})
