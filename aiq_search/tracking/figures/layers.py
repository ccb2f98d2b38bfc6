"""Where the efficiency of the best networks comes from, layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from aiq_search.tracking.figures.facts import StudyFacts
from aiq_search.tracking.figures.style import PALETTE, figure

if TYPE_CHECKING:
    from aiq_search.search.record import TrialRecord

__all__ = ["ceiling", "layer_efficiencies"]

SHOWN = 10


def ceiling(observations: int, neurons: int) -> float:
    """Highest efficiency that a layer can show: entropy cannot exceed log2 of the observations.

    >>> round(ceiling(10_000, 100), 3), ceiling(10_000, 8)
    (0.133, 1.0)
    """
    return min(1.0, math.log2(observations) / neurons) if observations > 1 else 1.0


def layer_efficiencies(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """Efficiency of each hidden layer of the best networks, with its ceiling where it is below 1."""
    best = facts.ranked[:SHOWN]
    if not best or not facts.layers:
        return None
    labels = [facts.label(r) for r in best]
    traces = []
    near = 0
    for layer, color in zip(facts.layers, PALETTE * len(facts.layers), strict=False):
        values = [r.metrics.get(f"efficiency/{layer}") for r in best]
        traces.append(
            go.Scatter(
                x=values,
                y=labels,
                mode="markers",
                name=layer,
                marker={"size": 11, "color": color},
                hovertemplate=f"{layer}: %{{x:.4f}}<extra>%{{y}}</extra>",
            )
        )
        limits = [_limit(facts, layer, r) for r in best]
        near += sum(
            v is not None and c is not None and v > 0.9 * c for v, c in zip(values, limits, strict=True)
        )
        if any(limits):
            traces.append(
                go.Scatter(
                    x=limits,
                    y=labels,
                    mode="markers",
                    name=f"ceiling of {layer}",
                    marker={
                        "size": 16,
                        "symbol": "line-ns",
                        "color": color,
                        "line": {"width": 3, "color": color},
                    },
                    hovertemplate=f"ceiling of {layer}: %{{x:.4f}}<extra>%{{y}}</extra>",
                )
            )
    drawn = figure(traces, "efficiency of the layer", "", height=140 + 34 * len(best))
    drawn.update_yaxes(autorange="reversed")
    drawn.update_xaxes(rangemode="tozero")
    text = (
        f"The {len(best)} best trials, the best on top. A network's efficiency is the geometric mean of its "
        "layers', so the leftmost dot of a row holds it back: that layer is the one to narrow."
    )
    if near:
        text += (
            f" {near} {'dot sits' if near == 1 else 'dots sit'} at the ceiling log2(N) / neurons: with "
            f"{facts.observations:,} observations such a layer's efficiency tells its width and no more."
        )
    return drawn, text


def _limit(facts: StudyFacts, layer: str, record: TrialRecord) -> float | None:
    """Ceiling of a layer if it is known and below 1. A convolution sees a state a position, many an image."""
    neurons = record.params.get(f"model.{layer}")
    if not isinstance(neurons, int) or layer.startswith("conv") or facts.observations < 2:
        return None
    limit = ceiling(facts.observations, neurons)
    return limit if limit < 1 else None
