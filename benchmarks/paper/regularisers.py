"""Batch norm and dropout: efficiency with them less that without, seed by seed, however it is measured."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from benchmarks.paper.drawing import Panel, distinct, figure
from benchmarks.paper.rows import Evidence, effect
from benchmarks.paper.verdicts import Judgement

__all__ = ["judge"]

_KINDS = ("batch norm", "dropout")
_WAY = ["mode", "point", "observations"]


def judge(evidence: Evidence) -> Judgement:
    """Whether either raises the efficiency: at the paper's capture point, and measured in other ways."""
    table = pd.DataFrame(_effects(evidence.rows))
    verdicts, shares = {}, {}
    for kind in _KINDS:
        signs = table[table["with"].str.startswith(kind)]["sign"]
        raised, lowered = (signs > 0).sum(), (signs < 0).sum()
        verdicts[kind] = _verdict(len(signs), raised, lowered)
        shares[kind] = f"raised in {raised} and lowered in {lowered} of {len(signs)} comparisons"
    ways = _by_way(evidence.measured)
    worst = min(verdicts.values(), key=["contradicted", "not seen", "partly", "reproduced"].index)
    short = "; ".join(f"{kind}: {verdict} ({shares[kind]})" for kind, verdict in verdicts.items())
    ours = f"{short}. {_reasons(ways, verdicts)}"
    caption = (
        "Efficiency with batch norm or dropout less that without, at the output of the hidden layers in "
        "evaluation mode: mean and standard deviation over the same seeds, a comparison for each network and "
        "width (named below by its widths). Above the line it was raised."
    )
    tables = {"Paired by seed (sign: differs from 0 at 5 %)": table}
    if len(ways):
        tables["The same networks, measured in other ways (means over networks and rates)"] = ways
    return Judgement(worst, short, ours, tables, _figure(table), caption)


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
                counts = {"raised": int((of["sign"] > 0).sum()), "lowered": int((of["sign"] < 0).sum())}
                gain = {"mean gain": of["mean"].mean(), "comparisons": len(of)}
                found.append(dict(zip(_WAY, way, strict=True)) | {"with": kind} | gain | counts)
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
            f"in {w['mode']} mode at the {w['point']} on {w['observations']:,} images (raised in "
            f"{w['raised']} and lowered in {w['lowered']} of {w['comparisons']} comparisons)"
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
        sentences.append(
            "The paper's longer recipe and wider networks were not tried, and are not ruled out."
        )
    return " ".join(sentences)


def _figure(table: pd.DataFrame) -> str:
    spread = max((table["mean"].abs() + table["sd"].fillna(0)).max() * 1.1, 1e-6)
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
