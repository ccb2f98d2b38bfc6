"""What the trainings of a claim show: tables, a figure, and a verdict that follows from the numbers."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.paper.drawing import Panel, Scale, colours, distinct, figure
from benchmarks.paper.rows import (
    NOISE,
    TEST,
    TRAIN,
    Evidence,
    cells,
    effect,
    headline,
    paired,
    seeds_of,
    spread,
    top,
)

__all__ = ["BETAS", "Judgement", "lenet_5_size", "memorisation", "size", "surfaces"]

# Of the paper.
_TIMES, _POINTS = 30_912, 2.32
_RESISTS = 0.9251

# By how much training accuracy exceeds what the true labels explain where a network clearly memorises.
_MEMORISES = 0.02
_PAPERS_LARGE, _PAPERS_SMALL = (16, 1024, 1024), (4, 2, 8)

_CONVENTIONS = (
    "parameters",
    "weights of convolutions and linear layers",
    "weights of convolutions, without the output layer",
)

BETAS = (0.5, 1, 2, 4, 8)
_SEEDS = 3  # from so many on, a network's aIQ is compared with another's
_LOWEST = 0.9  # accuracy that the figure of the sizes still shows


@dataclass(frozen=True)
class Judgement:
    """What was found.

    Attributes:
        verdict: reproduced, partly, not seen or contradicted.
        short: Our figure with its spread, for a table.
        ours: The same in sentences.
        tables: By caption.
        svg: The figure.
        caption: Of the figure, to be read alone.
    """

    verdict: str
    short: str
    ours: str
    tables: dict[str, pd.DataFrame]
    svg: str
    caption: str


def lenet_5_size(*widths: int) -> tuple[int, int, int]:
    """Numbers of a LeNet-5 on MNIST: parameters, weights, and weights of its three convolutions alone.

    >>> lenet_5_size(2, 4, 8)
    (866, 842, 762)
    """
    conv1, conv2, fc = widths
    convolutions = 25 * conv1 + 25 * conv1 * conv2 + 16 * conv2 * fc
    weights = convolutions + 10 * fc
    return weights + conv1 + conv2 + fc + 10, weights, convolutions


def size(evidence: Evidence) -> Judgement:
    """The best aIQ against the best accuracy, over widths."""
    rows = evidence.rows
    grid = cells(rows)
    chosen = grid[grid["seeds"] >= _SEEDS] if (grid["seeds"] >= _SEEDS).any() else grid  # no lucky singles
    best, accurate = grid.loc[chosen["aiq"].idxmax()], grid.loc[chosen["accuracy"].idxmax()]
    points, said = _points_lost(rows, accurate, best)
    times = {name: accurate[name] / best[name] for name in ("parameters", "parameters_weights")}
    verdict = "not seen"
    if abs(points - _POINTS) <= 1 and times["parameters_weights"] >= _TIMES / 2:
        verdict = "reproduced"
    elif 0 <= points <= 2 * _POINTS and times["parameters_weights"] >= 10:
        verdict = "partly"
    near = chosen[chosen["accuracy"] >= accurate["accuracy"] - _POINTS / 100]
    smallest = near.loc[near["parameters"].idxmin()]
    short = (
        f"{best['widths']} against {accurate['widths']}: {times['parameters']:,.0f} times fewer parameters, "
        f"{said} points"
    )
    ours = (
        f"{best['widths']} has {times['parameters']:,.0f} times fewer parameters than {accurate['widths']} "
        f"({times['parameters_weights']:,.0f} times, counting weights of convolutions and linear layers "
        f"alone), and is {said} points less accurate on the test split.{_tied(rows, grid, accurate, best)} "
        f"{_papers_pair(rows, grid)} "
        f"{_POINTS} points below the most accurate network, on the validation split, the smallest is "
        f"{smallest['widths']} with {smallest['parameters']:,.0f} parameters, "
        f"{accurate['parameters'] / smallest['parameters']:,.0f} times fewer."
    )
    named = {"highest aIQ": best, "most accurate": accurate, f"smallest within {_POINTS} points": smallest}
    compared = pd.DataFrame([{"network": name, **headline(rows, cell)} for name, cell in named.items()])
    shown = {"highest aIQ": best, "most accurate": accurate}
    return Judgement(
        verdict,
        short,
        ours,
        {
            "The networks": compared,
            "What the paper's 30,912 means": _papers_factor(),
            "The network of the highest aIQ, by beta": _by_beta(rows, grid),
            "The five of the highest aIQ": top(rows, grid),
        },
        _size_figure(grid, shown),
        f"Each point is a LeNet-5 of other widths (conv1-conv2-fc), the mean of its seeds, of {len(grid)} "
        f"trained; the brighter, the higher its aIQ. {int((grid[TEST] < _LOWEST).sum())} networks below "
        f"{_LOWEST} are not shown. Rings: the highest aIQ and the most accurate, both chosen on the "
        "validation split, of the networks with three seeds or more.",
    )


def _points_lost(rows: pd.DataFrame, large: pd.Series, small: pd.Series) -> tuple[float, str]:
    """Points of test accuracy that the small network is behind, and the same in words."""
    lost = 100 * paired(rows, large, small, TEST)
    if len(lost):
        return lost.mean(), spread(lost, 3)
    points = 100 * (large[TEST] - small[TEST])
    return points, f"{points:.3g} (not paired: they have no seed in common)"


def _tied(rows: pd.DataFrame, grid: pd.DataFrame, accurate: pd.Series, best: pd.Series) -> str:
    """Which networks may as well have the highest aIQ, and what the first of them lost."""
    others = grid[(grid["widths"] != best["widths"]) & (grid["seeds"] >= _SEEDS)]
    others = others.sort_values("aiq", ascending=False)
    tied = [cell for _, cell in others.iterrows() if effect(paired(rows, best, cell, "aiq"))["sign"] == 0]
    if not tied:
        return ""
    times = accurate["parameters"] / tied[0]["parameters"]
    names = ", ".join(cell["widths"] for cell in tied)
    return (
        f" Its aIQ cannot be told from that of {names} (paired by seed, at 5 %); {tied[0]['widths']} has "
        f"{times:,.0f} times fewer parameters than {accurate['widths']}, and is "
        f"{_points_lost(rows, accurate, tied[0])[1]} points less accurate."
    )


def _papers_pair(rows: pd.DataFrame, grid: pd.DataFrame) -> str:
    """The pair of networks that fits the paper's factor, if both were trained."""
    by_widths = grid.drop_duplicates("widths").set_index("widths")
    names = ["-".join(map(str, widths)) for widths in (_PAPERS_LARGE, _PAPERS_SMALL)]
    if not all(name in by_widths.index for name in names):
        return "The paper's widths go to 1,024; below them its factor is out of reach."
    large, small = (by_widths.loc[name] for name in names)
    others = by_widths.drop(names[0])
    end = int(others[[name for name in others if name.startswith("model.")]].max(axis=None))
    alone = (
        f" No other network with a layer wider than {end} was trained." if end < max(_PAPERS_LARGE) else ""
    )
    return (
        f"{names[0]} against {names[1]}, a pair that fits the paper's factor if weights of convolutions are "
        f"counted without the output layer: {large['parameters'] / small['parameters']:,.0f} times fewer "
        f"parameters, {_points_lost(rows, large, small)[1]} points.{alone}"
    )


def _by_beta(rows: pd.DataFrame, grid: pd.DataFrame) -> pd.DataFrame:
    betas = []
    for beta in BETAS:
        score = (grid["accuracy"] ** beta * grid["efficiency"]) ** (1 / (beta + 1))
        chosen = grid.loc[score.idxmax()]
        betas.append({"beta": beta, "aIQ at this beta": score.max(), **headline(rows, chosen)})
    return pd.DataFrame(betas).drop(columns="aIQ")


def _papers_factor() -> pd.DataFrame:
    """A pair of networks that fits the paper's factor, and how many pairs do, by what is counted."""
    every = [lenet_5_size(*w) for w in itertools.product([2**n for n in range(1, 11)], repeat=3)]
    large, small = lenet_5_size(*_PAPERS_LARGE), lenet_5_size(*_PAPERS_SMALL)
    rows = []
    for which, convention in enumerate(_CONVENTIONS):
        counts = np.array([each[which] for each in every], dtype=float)
        ratios = np.rint(counts[:, None] / counts[None, :])
        rows.append(
            {
                "counted": convention,
                "-".join(map(str, _PAPERS_LARGE)): large[which],
                "-".join(map(str, _PAPERS_SMALL)): small[which],
                "times fewer": f"{large[which] / small[which]:,.1f}",
                f"pairs of widths 2 to 1,024 with {_TIMES:,}": int((ratios == _TIMES).sum()),
            }
        )
    return pd.DataFrame(rows)


def _size_figure(grid: pd.DataFrame, named: dict[str, pd.Series]) -> str:
    shown = grid[grid[TEST] >= _LOWEST] if (grid[TEST] >= _LOWEST).any() else grid
    low = _LOWEST if len(shown) < len(grid) else math.floor(grid[TEST].min() * 20) / 20
    panel = Panel(
        "LeNet-5 on MNIST: accuracy over parameters",
        "parameters",
        "test accuracy",
        (grid["parameters"].min() / 1.3, grid["parameters"].max() * 1.3),
        (low, 1.0),
        log="x",
        wide=True,
    )
    for (_, cell), colour in zip(shown.iterrows(), colours(shown["aiq"].tolist()), strict=True):
        panel.dot(cell["parameters"], cell[TEST], colour, size=4.5)
    together: dict[str, list[str]] = {}
    for name, cell in named.items():
        together.setdefault(cell["widths"], []).append(name)
    for number, (widths, names) in enumerate(together.items()):
        cell = named[names[0]]
        panel.dot(cell["parameters"], cell[TEST], "#d62728", size=8, ring=True)
        text = f"{' and '.join(names)}: {widths}, {cell['parameters']:,.0f} parameters, {cell[TEST]:.1%}"
        late = cell["parameters"] > math.sqrt(grid["parameters"].min() * grid["parameters"].max())
        at = low + (1 - low) * (0.3 - 0.1 * number)
        panel.label(cell["parameters"], cell[TEST], text, at, "end" if late else "start")
    return figure([panel], scale=Scale("aIQ", shown["aiq"].min(), shown["aiq"].max()))


def surfaces(evidence: Evidence) -> Judgement:
    """Accuracy, efficiency and aIQ over two widths."""
    rows = evidence.rows
    grid = cells(rows)
    width = grid["model.hidden1"] * grid["model.hidden2"]
    ranks = {name: width.corr(grid[name], method="spearman") for name in ("accuracy", "efficiency", "aiq")}
    verdict = "not seen"
    if ranks["accuracy"] > 0.5 and ranks["efficiency"] < -0.5:
        verdict = "reproduced"
    elif ranks["accuracy"] > 0 and ranks["efficiency"] < 0:
        verdict = "partly"
    best = grid.loc[grid["aiq"].idxmax()]
    table = pd.DataFrame(
        [
            {"number": "aIQ" if name == "aiq" else name, "rank correlation with size": rank}
            for name, rank in ranks.items()
        ]
    )
    short = (
        f"rank correlation with size {ranks['accuracy']:+.2f} (accuracy), {ranks['efficiency']:+.2f} "
        f"(efficiency); {best['widths']} has the highest aIQ, {spread(seeds_of(rows, best, 'aiq'), 3)}"
    )
    ours = (
        f"Over {len(grid)} cells the rank correlation with hidden1 * hidden2 is {ranks['accuracy']:+.2f} "
        f"for accuracy and {ranks['efficiency']:+.2f} for efficiency; the highest aIQ, "
        f"{spread(seeds_of(rows, best, 'aiq'))}, has {best['widths']}. {int(grid['collapsed'].sum())} of "
        f"{len(rows)} trainings collapsed; they are counted, with aIQ 0."
    )
    caption = (
        "LeNet-300-100 on MNIST over the widths of both layers, means of the seeds on the validation split; "
        "brighter is higher, and a ring marks the highest. Accuracy grows with width, efficiency falls."
        if verdict == "reproduced"
        else "LeNet-300-100 on MNIST over the widths of both layers, means of the seeds on the validation "
        "split; brighter is higher, and a ring marks the highest."
    )
    tables = {"What grows with size": table, "The five of the highest aIQ": top(rows, grid)}
    return Judgement(verdict, short, ours, tables, figure(_surface_panels(grid)), caption)


def _surface_panels(grid: pd.DataFrame) -> list[Panel]:
    """Accuracy, efficiency and aIQ as colours over both widths."""
    sides = [(grid[f"model.hidden{n}"].min(), grid[f"model.hidden{n}"].max()) for n in (1, 2)]
    half = math.sqrt(2)
    panels = []
    for name in ("accuracy", "efficiency", "aiq"):
        title = "aIQ" if name == "aiq" else name
        panel = Panel(
            f"{title}: {grid[name].min():.2f} (dark) to {grid[name].max():.2f} (bright)",
            *("neurons of the first layer", "neurons of the second layer"),
            *((low / half, high * half) for low, high in sides),
            log="xy",
        )
        for (_, cell), colour in zip(grid.iterrows(), colours(grid[name].tolist()), strict=True):
            x, y = cell["model.hidden1"], cell["model.hidden2"]
            panel.cell(x / half, x * half, y / half, y * half, colour)
        highest = grid.loc[grid[name].idxmax()]
        panel.dot(highest["model.hidden1"], highest["model.hidden2"], "#d62728", size=7, ring=True)
        panels.append(panel)
    return panels


def memorisation(evidence: Evidence) -> Judgement:
    """Accuracy on randomised training labels and on true test labels, over epochs."""
    curves = evidence.rows
    table = _by_noise(curves)
    at = 0.75 if (table["_noise"] == 0.75).any() else table["_noise"].iloc[-1]
    noisiest = table[table["_noise"] == at]
    best, widest = noisiest.loc[noisiest["_aiq"].idxmax()], noisiest.loc[noisiest["memorised"].idxmax()]
    missed, memorised = _RESISTS - best["_test"], widest["memorised"] >= _MEMORISES
    verdict = "not seen"
    if missed <= 0.05:
        verdict = "reproduced" if missed <= 0.01 and memorised else "partly"
    short = f"{best['test, chosen epoch']} with {best['network']} at {best['randomised']}"
    ours = (
        f"With {best['randomised']} of the labels randomised, the network of the highest aIQ, "
        f"{best['network']}, has {best['test, chosen epoch']} on the true test labels at the chosen epoch, "
        f"{abs(100 * missed):.2g} points {'below' if missed > 0 else 'above'} the paper's, and "
        f"{best['test, last epoch']} at the last. "
        + ("" if memorised else "No network that was trained memorised. ")
        + f"{widest['network']} has the highest training accuracy, {widest['training, last epoch']} where "
        f"the true labels explain at most {widest['true labels explain']:.3f}, and ends at "
        f"{widest['test, last epoch']} on the test split."
    )
    caption = (
        "LeNet-5 on MNIST with randomised training labels: accuracy by epoch, means of the seeds, on the "
        "true test labels (lines) and on the randomised training labels (dashed). Where a dashed line rises "
        "above what the true labels explain, the network memorises, and its test accuracy falls."
    )
    shown = table.drop(columns=["_noise", "_aiq", "_test"])
    return Judgement(verdict, short, ours, {"By share of randomised labels": shown}, _curves(curves), caption)


def _by_noise(curves: pd.DataFrame) -> pd.DataFrame:
    """Each network at each share of randomised labels."""
    rows = []
    for (noise, _, widths), cell in curves.groupby([NOISE, "trial", "widths"], sort=True):
        last = cell[cell["epoch"] == cell["epoch"].max()]
        chosen = cell.loc[cell.groupby("replicate", dropna=False)["loss"].idxmin()]
        explained = (1 - noise) + noise / 10  # a random label is the true one in a tenth of the cases
        rows.append(
            {
                "randomised": f"{100 * noise:.0f} %",
                "network": widths,
                "training, last epoch": spread(last[TRAIN]),
                "true labels explain": explained,
                "memorised": last[TRAIN].mean() - explained,
                "test, last epoch": spread(last[TEST]),
                "test, chosen epoch": spread(chosen[TEST]),
                "aIQ, chosen epoch": spread(chosen["aiq"]),
                "_noise": noise,
                "_aiq": chosen["aiq"].mean(),
                "_test": chosen[TEST].mean(),
            }
        )
    return pd.DataFrame(rows)


def _curves(curves: pd.DataFrame) -> str:
    panels, names = [], list(dict.fromkeys(curves["widths"]))
    for noise in sorted(curves[NOISE].unique()):
        shown = curves[curves[NOISE] == noise]
        last = int(shown["epoch"].max())
        panel = Panel(
            f"{100 * noise:.0f} % of the labels randomised",
            *("epoch", "accuracy"),
            (1, max(2, last)),
            (0.0, 1.0),
            names={epoch: str(epoch) for epoch in (1, *range(5, last + 1, 5))},
        )
        for number, name in enumerate(names):
            means = shown[shown["widths"] == name].groupby("epoch")[[TRAIN, TEST]].mean()
            panel.line(list(means[TEST].items()), distinct(number))
            panel.line(list(means[TRAIN].items()), distinct(number), dashed=True)
        panels.append(panel)
    return figure(panels, {name: distinct(number) for number, name in enumerate(names)})
