"""Where the efficiency of the best networks comes from, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.report.figures.style import PALETTE, figure
from aiq_search.words import counted

__all__ = ["SHOWN", "layer_efficiencies"]

SHOWN = 10  # networks


def layer_efficiencies(
    facts: StudyFacts, ceilings: Mapping[int, Mapping[str, float]]
) -> tuple[go.Figure, str] | None:
    """Efficiency of each hidden layer of the best networks, with its ceiling where it is below 1.

    Args:
        facts: The study.
        ceilings: By number of the trial and name of the layer: the highest efficiency that its observations
            can show. What is not known is not drawn.
    """
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
        known = [ceilings.get(r.key.number, {}).get(layer) for r in best]
        limits = [limit if limit is not None and limit < 1 else None for limit in known]
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
            f" {counted(near, 'dot', 'sit')} near the ceiling log2(N) / neurons. N is the number of states "
            f"counted: {facts.observations:,} samples, of a convolution times its positions. The efficiency "
            "of such a layer tells how many were counted and no more."
        )
    return drawn, text
