"""The style of all figures, for light and dark pages: the page sets text and grid colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

__all__ = [
    "BAD",
    "BEST",
    "BLUE",
    "GREY",
    "ORANGE",
    "PALETTE",
    "SCALE",
    "figure",
    "log_axis",
    "style",
    "trials",
]

# Okabe and Ito's colours, which colour-blind readers can distinguish, and clear on white and on black.
BLUE = "#3b82c4"
ORANGE = "#e69f00"
BEST = "#d55e00"
BAD = "#cc79a7"
GREY = "#8a8f98"
PALETTE = [BLUE, ORANGE, "#009e73", BAD, "#56b4e9", "#b8a800", BEST, GREY]
SCALE = [[0.0, BLUE], [1.0, ORANGE]]  # both ends are clear on white and on black


def figure(traces: list[Any], x: str, y: str, height: int = 460, **layout: Any) -> go.Figure:  # noqa: ANN401 - plotly's
    """A figure with axis titles and the common look."""
    drawn = go.Figure(traces)
    style(drawn, height)
    drawn.update_layout(xaxis_title=x, yaxis_title=y, **layout)
    return drawn


def style(drawn: go.Figure, height: int) -> go.Figure:
    """Give a figure the common look."""
    drawn.update_layout(
        height=height,
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": GREY},
        colorway=PALETTE,
        margin={"l": 62, "r": 16, "t": 36, "b": 52},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        hoverlabel={"align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
    )
    lines = {"gridcolor": "rgba(138,143,152,0.25)", "linecolor": GREY, "zeroline": False, "automargin": True}
    drawn.update_xaxes(**lines)
    drawn.update_yaxes(**lines)
    return drawn


def trials(x: list[Any], y: list[Any], texts: list[str], name: str, color: str, **marker: Any) -> go.Scatter:  # noqa: ANN401 - plotly's
    """Trials as points with details on hover."""
    return go.Scatter(
        x=x,
        y=y,
        text=texts,
        name=name,
        mode="markers",
        hovertemplate="%{text}<extra></extra>",
        marker={"color": color, "size": 8, "opacity": 0.75} | marker,
    )


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """An axis for sizes, as plotly takes it: logarithmic, with whole numbers at its ticks."""
    found = _ticks(values)
    axis: dict[str, Any] = {"type": "log"}
    return axis | ({"tickvals": found, "ticktext": [f"{t:,}" for t in found]} if len(found) > 1 else {})


def _ticks(values: Sequence[float]) -> list[int]:
    """1, 2 and 5 times the powers of ten, or these alone if there are many.

    >>> _ticks([300, 4000]), _ticks([10, 2e6])
    ([500, 1000, 2000], [10, 100, 1000, 10000, 100000, 1000000])
    """
    fine = [m * 10**k for k in range(12) for m in (1, 2, 5)]
    inside = [t for t in fine if min(values) <= t <= max(values)]
    return inside if len(inside) <= 9 else [t for t in inside if str(t).startswith("1")]
