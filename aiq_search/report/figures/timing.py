"""Where the time of a search went."""

from __future__ import annotations

import plotly.graph_objects as go

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.report.figures.style import BAD, BEST, BLUE, GREY, ORANGE, figure
from aiq_search.study.time_spent import time_spent
from aiq_search.words import duration

__all__ = ["where_time_went"]

_COLORS = {
    "exploring, kept": BLUE,
    "exploring, pruned": "#56b4e9",
    "failed": BAD,
    "confirming": "#009e73",
    "reference network": "#b8a800",
    "start": ORANGE,
    "end": BEST,
}


def where_time_went(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """A bar of the seconds of all slots, by what they went to; None before a trial has ended.

    Args:
        facts: The study.
    """
    spent = time_spent(facts.document, facts.records)
    if spent is None:
        return None
    total = spent.total or 1.0
    bars = [
        go.Bar(
            x=[seconds / total],
            y=[""],
            orientation="h",
            name=name,
            text=[f"{seconds / total:.0%}"],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            marker={"color": _COLORS.get(name, GREY)},
            hovertemplate=f"{name}: {duration(seconds)}, %{{x:.1%}}<extra></extra>",
        )
        for name, seconds in spent.parts()
    ]
    drawn = figure(bars, "share of the time", "", height=210, barmode="stack")
    drawn.update_xaxes(tickformat=".0%", range=[0, 1])
    drawn.update_yaxes(visible=False)
    drawn.update_layout(uniformtext={"minsize": 9, "mode": "hide"}, legend_traceorder="normal")
    text = f"{spent} A slot trains one trial at a time; the search took {duration(spent.wall)} on the clock."
    return drawn, text
