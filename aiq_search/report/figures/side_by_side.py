"""Several studies in one picture: their fronts and champions, and how the hypervolume grew."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.report.figures.style import PALETTE, log_axis, style
from aiq_search.study.pareto import growth, pareto_front
from aiq_search.study.time_spent import SearchClock

__all__ = ["fronts", "hypervolumes"]

_SIZED = (("accuracy", "maximize"), ("parameters", "minimize"))


def fronts(studies: Sequence[StudyFacts]) -> tuple[go.Figure, str]:
    """Accuracy against efficiency and against size: a line is a study's front, a star its champion."""
    drawn = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    for facts, color in zip(studies, PALETTE * len(studies), strict=False):
        both = {
            "efficiency": pareto_front(facts.complete),
            "parameters": pareto_front(facts.complete, _SIZED),
        }
        for column, (name, front) in enumerate(both.items(), start=1):
            records = sorted(front.records, key=lambda record: record.metrics[name])
            line = go.Scatter(
                x=[record.metrics[name] for record in records],
                y=[record.metrics["accuracy"] for record in records],
                text=[facts.hover(record) for record in records],
                mode="lines+markers",
                name=facts.id,
                legendgroup=facts.id,
                showlegend=column == 1,
                # No trial is better than the front: towards the ideal corner a step keeps to what was seen.
                line={"color": color, "width": 1.5, "shape": "vh" if name == "efficiency" else "hv"},
                marker={"size": 5, "color": color},
                hovertemplate="%{text}<extra>%{fullData.name}</extra>",
            )
            drawn.add_trace(line, 1, column)
            drawn.add_trace(_star(facts, name, color), 1, column)
    style(drawn, 460)
    drawn.update_yaxes(title="validation accuracy", col=1)
    drawn.update_xaxes(title="network efficiency", col=1)
    sizes = [
        r.metrics["parameters"] for facts in studies for r in facts.complete if r.metrics.get("parameters")
    ]
    drawn.update_xaxes(title="parameters", **log_axis(sizes), col=2)
    return drawn, (
        "A line is the Pareto front of a study's exploring trials, each trained on one seed: on the left no "
        "trial is both more accurate and more efficient, on the right none both more accurate and smaller. "
        "A star is the champion, or the best so far, at its mean over its seeds, with the standard "
        "deviation: it may lie below its own front, which luck has lifted."
    )


def _star(facts: StudyFacts, name: str, color: str) -> go.Scatter:
    winner = facts.winner
    points = [] if winner is None else [winner]
    spreads = [each.validation["accuracy"] for each in points]
    return go.Scatter(
        x=[
            each.validation[name].mean if name in each.validation else each.explored.metrics[name]
            for each in points
        ],
        y=[spread.mean for spread in spreads],
        error_y={"type": "data", "array": [spread.sd for spread in spreads], "color": color},
        text=[f"{facts.title} {facts.label(each.explored)}" for each in points],
        mode="markers",
        name=f"{facts.title} of {facts.id}",
        legendgroup=facts.id,
        showlegend=False,
        marker={"size": 15, "symbol": "star", "color": color},
        hovertemplate="%{text}: accuracy %{y:.4f}<extra>%{fullData.name}</extra>",
    )


def hypervolumes(studies: Sequence[StudyFacts]) -> tuple[go.Figure, str, list[float]]:
    """The hypervolume of accuracy and efficiency over time and over cost, and where each study ends."""
    curves, volumes = [], []
    for facts in studies:
        ended = sorted((r for r in facts.complete if r.ended is not None), key=lambda r: r.ended or 0.0)
        clock = SearchClock(facts.document, facts.records)
        grown = growth(ended)
        volumes.append(grown[-1][1] if grown else 0.0)
        last = max((r for r in facts.explored if r.ended), key=lambda r: r.ended or 0.0, default=None)
        points = [*grown, *([(last, volumes[-1])] if last is not None and grown else [])]
        curves.append([(0.0, 0.0, 0.0), *((clock.seconds(r), clock.core_seconds(r), v) for r, v in points)])
    drawn = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    for column, title in ((1, "time"), (2, "core time")):
        unit, size = _unit(max((point[column - 1] for curve in curves for point in curve), default=0.0))
        for facts, curve, color in zip(studies, curves, PALETTE * len(studies), strict=False):
            line = go.Scatter(
                x=[point[column - 1] / size for point in curve],
                y=[point[2] for point in curve],
                mode="lines",
                name=facts.id,
                legendgroup=facts.id,
                showlegend=column == 1,
                line={"color": color, "width": 2.5, "shape": "hv"},
                hovertemplate=f"%{{y:.4f}} after %{{x:.3g}} {unit}<extra>%{{fullData.name}}</extra>",
            )
            drawn.add_trace(line, 1, column)
        drawn.update_xaxes(title=f"{title}, {unit}", rangemode="tozero", col=column)
    style(drawn, 400)
    drawn.update_yaxes(title="hypervolume", col=1)
    return drawn, _caption(studies, volumes), volumes


def _caption(studies: Sequence[StudyFacts], volumes: Sequence[float]) -> str:
    ends = sorted(zip(volumes, (facts.id for facts in studies), strict=True), reverse=True)
    return (
        "The hypervolume is the area under the front of accuracy and efficiency, from 0 to 1, as in "
        "`aiq pareto`: the faster it grows, the sooner a search finds good trade-offs. On the left since the "
        "search began, without interruptions; on the right by what its trainings took, all cores counted. "
        f"At the end of exploring: {', '.join(f'{name} {volume:.4f}' for volume, name in ends)}."
    ).replace("`", "")


def _unit(seconds: float) -> tuple[str, float]:
    """A unit in which so many seconds are easy to read, and its length."""
    if seconds < 120:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 7200 else ("hours", 3600.0)
