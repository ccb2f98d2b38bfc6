"""Efficiency of the best networks, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.report.figures.style import PALETTE, figure
from aiq_search.words import counted

__all__ = ["layer_efficiencies"]

_SHOWN = 10  # networks
_NEAR = 0.9  # of its ceiling


def layer_efficiencies(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """Efficiency of each hidden layer of the best networks, with its ceiling where that is below 1.

    Args:
        facts: The study.
    """
    best = facts.ranked[:_SHOWN]
    if not best or not facts.layers:
        return None
    labels = [facts.label(r) for r in best]
    traces = []
    near = 0
    for layer, color in zip(facts.layers, PALETTE * len(facts.layers), strict=False):
        values = [r.metrics.get(f"efficiency/{layer}") for r in best]
        limits = [r.metrics.get(f"ceiling/{layer}") for r in best]
        near += sum(
            value is not None and limit is not None and value > _NEAR * limit
            for value, limit in zip(values, limits, strict=True)
        )
        traces.append(_dots(layer, values, labels, {"size": 11, "color": color}))
        if any(limits):
            bar = {"size": 16, "symbol": "line-ns", "color": color, "line": {"width": 3, "color": color}}
            traces.append(_dots(f"ceiling of {layer}", limits, labels, bar))
    drawn = figure(traces, "efficiency of the layer", "", height=140 + 34 * len(best))
    drawn.update_yaxes(autorange="reversed")
    drawn.update_xaxes(rangemode="tozero")
    text = (
        f"The {len(best)} best trials, the best on top. A network's efficiency is the geometric mean of its "
        "layers', so the leftmost dot of a row holds it back: that layer is the one to narrow."
    )
    if near:
        text += (
            f" {counted(near, 'dot', 'sit')} near the ceiling log2(N) / neurons, where N is the number of "
            f"states counted: {facts.observations:,} samples, for a convolution times its positions. The "
            "efficiency of such a layer reflects N alone."
        )
    return drawn, text


def _dots(
    name: str, values: Sequence[float | None], labels: Sequence[str], marker: dict[str, object]
) -> go.Scatter:
    return go.Scatter(
        x=values,
        y=labels,
        mode="markers",
        name=name,
        marker=marker,
        hovertemplate=f"{name}: %{{x:.4f}}<extra>%{{y}}</extra>",
    )
