"""Beyond the paper: what rank and champion depend on, and what efficiency predicts that size does not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.paper.drawing import Panel, Scale, colours, figure
from benchmarks.paper.measuring import MODULE
from benchmarks.paper.rows import TEST, TRAIN, Evidence, cells
from benchmarks.paper.verdicts import BETAS, Judgement

__all__ = ["judge", "partial_correlation"]

_DRAWS = 1000
_FEWEST = 5  # cells of which a rank correlation says anything


def judge(evidence: Evidence) -> Judgement:
    """Beta, observations, capture point, the generalisation gap, and another data set."""
    grids = {name: cells(rows) for name, rows in evidence.rows.groupby("piece", sort=False)}
    gaps = _gaps(grids)
    ways = _by_way(evidence.measured)
    datasets = _two_data_sets(grids)
    tables = {"The network of the highest aIQ, by beta": _by_beta(grids)}
    if len(ways):
        tables["The same networks, measured in other ways (the first seed of each)"] = ways
    if len(gaps):
        tables["Efficiency and the generalisation gap (training less test accuracy)"] = gaps
    if len(datasets):
        tables["MNIST and Fashion-MNIST, the cells of both"] = datasets
    told, short = _told(gaps, ways, datasets), _told(gaps, pd.DataFrame(), datasets)
    return Judgement("no claim of the paper", short, told, tables, _figure(grids), _CAPTION)


_CAPTION = (
    "LeNet-300-100: generalisation gap (accuracy on the training split less accuracy on the test split, in "
    "points) over efficiency; each point is a network of other widths, the mean of its seeds, the brighter, "
    "the more parameters it has. That colours change along the trend shows how much of it is size."
)


def _told(gaps: pd.DataFrame, ways: pd.DataFrame, datasets: pd.DataFrame) -> str:
    sentences = []
    for row in gaps.to_dict("records"):
        inside = row["from"] <= 0 <= row["to"]
        what = "which is no evidence that it" if inside else "so it"
        sentences.append(
            f"On {row['grid']}, at equal parameters, efficiency and the generalisation gap have a rank "
            f"correlation of {row['at equal parameters']:+.2f} (95 % interval {row['from']:+.2f} to "
            f"{row['to']:+.2f}), {what} predicts {'anything' if inside else 'something'} that size does not."
        )
    for row in ways.to_dict("records"):
        if row["point"] == MODULE and row["observations"] < ways["observations"].max():
            sentences.append(
                f"On {row['observations']:,} images the ranks of {row['grid']} correlate at "
                f"{row['rank correlation']:+.2f} with those on all, and {row['champion']} is the champion."
            )
    for row in datasets.to_dict("records"):
        sentences.append(
            f"The aIQ of {row['cells']} networks on MNIST and Fashion-MNIST has a rank correlation of "
            f"{row['rank correlation of aIQ']:+.2f}."
        )
    return " ".join(sentences) or "Too few networks are trained."


def _by_beta(grids: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows = []
    for name, grid in grids.items():
        for beta in BETAS:
            score = (grid["accuracy"] ** beta * grid["efficiency"]) ** (1 / (beta + 1))
            best, ranks = grid.loc[score.idxmax()], score.corr(grid["aiq"], method="spearman")
            fixed = {"grid": name, "beta": beta, "champion": best["widths"], "aIQ at this beta": score.max()}
            numbers = {"test accuracy": best[TEST], "parameters": int(best["parameters"])}
            rows.append(fixed | numbers | {"rank correlation with beta 2": ranks})
    return pd.DataFrame(rows)


def _by_way(measured: pd.DataFrame | None) -> pd.DataFrame:
    """Champion and ranks by the number of observations and by the capture point."""
    if measured is None or not len(measured):
        return pd.DataFrame()
    measured = measured.assign(aiq=(measured["accuracy"] ** 2 * measured["efficiency"]) ** (1 / 3))
    rows = []
    for name, of_grid in measured.groupby("piece", sort=False):
        every = of_grid["observations"].max()
        usual = of_grid[(of_grid["observations"] == every) & (of_grid["point"] == MODULE)]
        usual = usual.groupby("widths")["aiq"].mean()
        for (point, observations), way in of_grid.groupby(["point", "observations"], sort=False):
            means = way.groupby("widths")[["aiq", "efficiency"]].mean()
            widest = [max(map(int, widths.split("-"))) for widths in means.index]
            ceiling = np.minimum(1, math.log2(observations) / np.array(widest))
            rows.append(
                {
                    "grid": name,
                    "point": point,
                    "observations": observations,
                    "champion": means["aiq"].idxmax(),
                    "its aIQ": means["aiq"].max(),
                    "mean efficiency": means["efficiency"].mean(),
                    "rank correlation": means["aiq"].corr(usual, method="spearman"),
                    "ceiling of the widest layer": float(np.min(ceiling)),
                }
            )
    return pd.DataFrame(rows)


def _gaps(grids: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows = []
    for name, grid in grids.items():
        if TRAIN not in grid or grid[TRAIN].isna().any() or len(grid) < _FEWEST:
            continue
        gap, size = grid[TRAIN] - grid[TEST], np.log(grid["parameters"])
        numbers = np.column_stack([grid["efficiency"], gap, size])
        draw = np.random.default_rng(0)
        drawn = [
            partial_correlation(numbers[draw.integers(len(numbers), size=len(numbers))])
            for _ in range(_DRAWS)
        ]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        rows.append(
            {
                "grid": name,
                "cells": len(grid),
                "mean gap, points": 100 * gap.mean(),
                "efficiency and gap": stats.spearmanr(numbers[:, 0], numbers[:, 1]).statistic,
                "size and gap": stats.spearmanr(numbers[:, 2], numbers[:, 1]).statistic,
                "at equal parameters": partial_correlation(numbers),
                "from": low,
                "to": high,
            }
        )
    return pd.DataFrame(rows)


def partial_correlation(numbers: np.ndarray) -> float:
    """Spearman's rank correlation of the first two columns, at equal values of the third.

    Args:
        numbers: (N, 3).

    Example:
        >>> size = np.arange(8.0)
        >>> round(partial_correlation(np.column_stack([size % 2 - size, size % 2 + size, size])), 3)
        1.0
    """
    ranks = stats.rankdata(numbers, axis=0)
    of = np.corrcoef(ranks, rowvar=False)
    below = (1 - of[0, 2] ** 2) * (1 - of[1, 2] ** 2)
    return float((of[0, 1] - of[0, 2] * of[1, 2]) / math.sqrt(below)) if below > 1e-12 else math.nan


def _two_data_sets(grids: dict[str, pd.DataFrame]) -> pd.DataFrame:
    ours = [grids.get(name) for name in ("lenet-300-100", "fashion-300-100")]
    if ours[0] is None or ours[1] is None:
        return pd.DataFrame()
    both = ours[0].merge(ours[1], on="widths", suffixes=(" MNIST", " Fashion"))
    if len(both) < _FEWEST:
        return pd.DataFrame()
    row: dict[str, object] = {"cells": len(both)}
    for name, title in (("aiq", "aIQ"), ("efficiency", "efficiency"), ("accuracy", "accuracy")):
        row[f"rank correlation of {title}"] = both[f"{name} MNIST"].corr(
            both[f"{name} Fashion"], method="spearman"
        )
    for name in ("MNIST", "Fashion"):
        best = both.loc[both[f"aiq {name}"].idxmax()]
        row[f"champion, {name}"] = f"{best['widths']}, {best[f'aiq {name}']:.3f}"
    return pd.DataFrame([row])


def _figure(grids: dict[str, pd.DataFrame]) -> str:
    panels, sizes = [], []
    titles = {"lenet-300-100": "MNIST", "fashion-300-100": "Fashion-MNIST"}
    shown = {name: grids[name] for name in titles if name in grids and TRAIN in grids[name]}
    for name, grid in shown.items():
        gap, size = 100 * (grid[TRAIN] - grid[TEST]), np.log10(grid["parameters"])
        sizes += [size.min(), size.max()]
        panel = Panel(
            f"{titles[name]}: generalisation gap over efficiency",
            "efficiency",
            "gap, points",
            (math.floor(grid["efficiency"].min() * 10) / 10, 1.0),
            (math.floor(gap.min()), math.ceil(gap.max()) or 1),
            wide=len(shown) == 1,
        )
        for x, y, colour in zip(grid["efficiency"], gap, colours(size.tolist()), strict=True):
            panel.dot(x, y, colour, size=4.5)
        panels.append(panel)
    scale = Scale("log10 of the parameters", min(sizes), max(sizes)) if sizes else None
    return figure(panels or [Panel("no network yet", "", "", (0, 1), (0, 1))], scale=scale)
