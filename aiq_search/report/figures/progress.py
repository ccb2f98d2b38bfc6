"""Progress of the search: the best so far, and where trials were pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aiq_search.report.figures.facts import StudyFacts, sampled
from aiq_search.report.figures.style import BAD, BEST, BLUE, GREY, figure, style, trials
from aiq_search.study.events import TrialState
from aiq_search.study.progress import Best
from aiq_search.words import counted

if TYPE_CHECKING:
    from aiq_search.study.record import TrialRecord

__all__ = ["best_so_far", "rungs"]

LINES = 400  # trials of one state whose epochs are drawn


def best_so_far(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """The best objective so far, over trials and over time."""
    ended = sorted((r for r in facts.complete if r.ended is not None), key=lambda r: r.ended or 0)
    if not ended:
        return None
    begin = min(r.started or r.ended or 0 for r in ended)
    best: Best[TrialRecord] = Best(facts.options.objective)
    leaders = []
    for record in ended:
        best.add(record)
        leaders.append(best.trial)
    minutes = [((r.ended or 0) - begin) / 60 for r in ended]
    shown = {r.key for r in facts.drawn}
    places = [i for i, record in enumerate(ended) if record.key in shown]
    values, texts = [_shown(facts, ended[i]) for i in places], [facts.hover(ended[i]) for i in places]
    # The line has a point where the best changes, and one at its end.
    steps = [i for i, leader in enumerate(leaders) if i == 0 or leader is not leaders[i - 1]]
    steps.append(len(ended) - 1)
    best_values = [
        None if leader is None else _shown(facts, leader) for leader in map(leaders.__getitem__, steps)
    ]
    drawn = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    for column, x in ((1, list(range(1, len(ended) + 1))), (2, minutes)):
        points = trials([x[i] for i in places], values, texts, "trial", BLUE)
        line = go.Scatter(
            x=[x[i] for i in steps],
            y=best_values,
            mode="lines",
            line={"color": BEST, "width": 2.5, "shape": "hv"},
            name="best so far",
            hoverinfo="skip",
        )
        for trace in (points, line):
            trace.showlegend = column == 1
            drawn.add_trace(trace, 1, column)
    style(drawn, 400)
    drawn.update_xaxes(title="complete trials", col=1)
    drawn.update_xaxes(title="minutes", col=2)
    drawn.update_yaxes(title=f"validation {facts.goal}", col=1)
    return drawn, _when(best, minutes) + facts.sample


def _when(best: Best[TrialRecord], minutes: Sequence[float]) -> str:
    """When the best trial came, and what that says about the length of the search."""
    if best.trial is None:
        return "No trial met every constraint."
    place = best.ended - best.since - 1
    text = (
        f"The best trial was number {place + 1} of {best.ended} that were trained to the end, after "
        f"{minutes[place]:.1f} of {minutes[-1]:.1f} minutes."
    )
    if best.since > best.ended / 2:
        return text + " The second half of the search brought nothing better: a shorter one would have done."
    if best.since < best.ended / 10:
        return text + " The curve still rose near its end: more trials may find a better one."
    return text


def _shown(facts: StudyFacts, record: TrialRecord) -> float:
    return facts.shown(facts.score(record))


def rungs(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """The objective by epoch of every trial: who was stopped where."""
    name = facts.objective
    with_history = [r for r in facts.explored if len(r.history.get(name, ())) > 0]
    if not any(r.state is TrialState.PRUNED for r in with_history):
        return None
    states = (
        (TrialState.COMPLETE, "complete", BLUE),
        (TrialState.PRUNED, "stopped early", GREY),
        (TrialState.FAIL, "failed", BAD),
    )
    traces = []
    for state, label, color in states:
        chosen = [r for r in with_history if r.state is state]
        if not chosen:
            continue
        x: list[int | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for record in sampled(chosen, LINES):  # one trace, with gaps: thousands of traces would never draw
            column = record.history[name]
            x += [*range(1, len(column) + 1), None]
            y += [*(round(v, 4) for v in column), None]
            texts += [facts.label(record)] * (len(column) + 1)
        traces.append(
            go.Scatter(
                x=x,
                y=y,
                text=texts,
                mode="lines+markers",
                marker={"size": 4},
                line={"color": color, "width": 1.2},
                opacity=0.7,
                name=f"{label} ({len(chosen)})",
                hovertemplate="%{text}<br>epoch %{x}: %{y:.4f}<extra></extra>",
            )
        )
    drawn = figure(traces, "epoch", f"validation {facts.goal}", height=420)
    run = sum(r.epochs for r in with_history)
    longest = max(r.epochs for r in with_history)
    pruned = sum(r.state is TrialState.PRUNED for r in with_history)
    return drawn, (
        f"{counted(pruned, 'trial', 'were')} stopped early, of {len(with_history):,}, so that the search ran "
        f"{run:,} epochs instead of up to {longest * len(with_history):,}. Lines that end early belong to "
        "trials that did worse than others at the same epoch."
        + (f" Of each kind at most {LINES} are drawn." if len(with_history) > LINES else "")
    )
