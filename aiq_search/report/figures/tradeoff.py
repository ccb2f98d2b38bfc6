"""Accuracy against efficiency, and aIQ against size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.report.figures.style import BEST, BLUE, GREY, ORANGE, figure, log_axis, trials
from aiq_search.study.pareto import pareto_front
from aiq_search.words import counted, ratio, typeset

if TYPE_CHECKING:
    from aiq_search.study.record import TrialRecord

__all__ = ["accuracy_and_efficiency", "aiq_and_parameters"]


def accuracy_and_efficiency(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """Accuracy against efficiency with lines of equal aIQ and the Pareto front."""
    shown = [r for r in facts.complete if {"accuracy", "efficiency"} <= set(r.metrics)]
    if not shown:
        return None
    efficiency = np.array([r.metrics["efficiency"] for r in shown])
    accuracy = np.array([r.metrics["accuracy"] for r in shown])
    # Untrained networks at the accuracy of chance would squeeze all others into one line.
    named = [
        r.metrics["accuracy"] for r in shown if r is facts.champion or r.key.number in facts.confirmed_origins
    ]
    low = min([float(np.quantile(accuracy, 0.1)), *named])
    reach = max(float(accuracy.max()) - low, 0.02)
    x = _padded(float(efficiency.min()), float(efficiency.max()))
    y = (max(0.0, low - 0.15 * reach), min(1.0, float(accuracy.max()) + 0.08 * reach) + 0.005)
    front = pareto_front(shown).records[::-1]  # by growing efficiency
    line = go.Scatter(
        x=[r.metrics["efficiency"] for r in front],
        y=[r.metrics["accuracy"] for r in front],
        mode="lines",
        name="Pareto front",
        line={"color": ORANGE, "width": 2, "shape": "vh"},
        hoverinfo="skip",
    )
    points = _points(facts, facts.drawn, "efficiency", "accuracy")
    traces = [*_equal_aiq(facts.beta, x, y), line, *points]
    drawn = figure(traces, "network efficiency", "validation accuracy", xaxis_range=x, yaxis_range=y)
    hidden = int((accuracy < y[0]).sum())
    text = _front(facts, len(front)) + " Along a grey line aIQ is the same; up and right is better."
    text += facts.sample
    below = counted(hidden, "less accurate trial", "lie")
    return drawn, text + (f" {below} below the picture (double-click to see all)." if hidden else "")


def _front(facts: StudyFacts, front: int) -> str:
    """How many trials none beats, in a sentence; the same count as ``aiq pareto``."""
    limits = typeset(" and ".join(str(c) for c in facts.options.objective.number_constraints))
    met = sum(bool(r.feasible) and not r.collapsed for r in facts.complete)
    among = counted(len(facts.complete), "complete trial")
    if not met:
        return f"Of {among} none {'meets ' + limits if limits else 'kept all its layers from collapsing'}."
    if limits:
        among += f" {met:,} {'meets' if met == 1 else 'meet'} {limits}; of these"
    lie = "lies" if front == 1 else "lie"
    return f"Of {among} {front} {lie} on the Pareto front: none is both more accurate and more efficient."


def _equal_aiq(beta: float, x: tuple[float, float], y: tuple[float, float]) -> list[go.Scatter]:
    """Lines of equal aIQ: accuracy = (aIQ^(beta + 1) / efficiency)^(1 / beta)."""
    corners = [(a**beta * e) ** (1 / (beta + 1)) for a in y for e in x]
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if (max(corners) - min(corners)) / s <= 9)
    levels = np.arange(np.ceil(min(corners) / step) * step, max(corners), step)
    e = np.linspace(max(x[0], 1e-3), x[1], 80)
    lines: list[go.Scatter] = []
    for level in levels:
        a = (level ** (beta + 1) / e) ** (1 / beta)
        inside = (a >= y[0]) & (a <= y[1])
        if inside.sum() < 2:
            continue
        labels = [""] * int(inside.sum())
        labels[-1] = f"{level:.2f}"
        lines.append(
            go.Scatter(
                x=e[inside],
                y=a[inside],
                mode="lines+text",
                text=labels,
                textposition="top left",
                textfont={"size": 10, "color": GREY},
                line={"color": GREY, "width": 1, "dash": "dot"},
                opacity=0.6,
                name="equal aIQ",
                legendgroup="equal",
                showlegend=not lines,
                hoverinfo="skip",
            )
        )
    return lines


def aiq_and_parameters(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """The aIQ against the number of parameters."""
    shown = [r for r in facts.complete if {"aiq", "parameters"} <= set(r.metrics)]
    if not shown:
        return None
    drawn = figure(_points(facts, facts.drawn, "parameters", "aiq"), "parameters", "validation aIQ")
    drawn.update_xaxes(**log_axis([r.metrics["parameters"] for r in shown]))
    best = facts.champion
    tried = [r for r in facts.explored if "parameters" in r.metrics]  # also those stopped early
    big = max(tried, key=lambda r: r.metrics["parameters"])
    text = "Each point is a complete trial; further left is smaller, further up is better." + facts.sample
    if best is not None and big.metrics["parameters"] > best.metrics["parameters"]:
        text += (
            f" The {facts.title} has {best.metrics['parameters']:,.0f} parameters; the largest network "
            f"tried, {facts.label(big)}, has {big.metrics['parameters']:,.0f}, "
            f"{ratio(big.metrics['parameters'], best.metrics['parameters'])} times as many."
        )
    return drawn, text


def _points(facts: StudyFacts, shown: Sequence[TrialRecord], x: str, y: str) -> list[go.Scatter]:
    """Trials by kind, the champion last and on top; those that have both numbers."""
    shown = [r for r in shown if {x, y} <= r.metrics.keys()]
    winner = facts.champion
    final = facts.confirmed_origins
    kinds: list[tuple[str, str, list[TrialRecord], dict[str, Any]]] = [
        ("misses a constraint", GREY, [r for r in shown if not r.feasible], {"symbol": "circle-open"}),
        ("trial", BLUE, [r for r in shown if r.feasible and r.key.number not in final], {}),
        ("finalist", ORANGE, [r for r in shown if r.key.number in final], {"size": 11, "symbol": "diamond"}),
        (facts.title, BEST, [r for r in shown if r is winner], {"size": 17, "symbol": "star", "opacity": 1}),
    ]
    return [
        trials(
            [r.metrics[x] for r in rs], [r.metrics[y] for r in rs], [facts.hover(r) for r in rs], name, c, **m
        )
        for name, c, rs, m in kinds
        if rs
    ]


def _padded(low: float, high: float) -> tuple[float, float]:
    room = max(high - low, 0.05) * 0.06
    return max(0.0, low - room), min(1.02, high + room)
