"""The champion: finalists with their spread, learning curves, confusions and frequent states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.report.figures.neurons import Neurons
from aiq_search.report.figures.style import BEST, BLUE, GREY, ORANGE, figure, style
from aiq_search.study.events import TrialState
from aiq_search.study.record import TrialRecord
from aiq_search.words import counted

__all__ = ["NetworkView", "confusion", "finalists", "frequent_states", "learning_curves"]

STATES = 12  # most frequent states that are shown of a layer
NEURONS = 64  # neurons that are shown of a layer


@dataclass(frozen=True)
class NetworkView:
    """What only the champion's network itself shows, measured on the validation split.

    Attributes:
        trial: Key of the training whose network it is.
        confusion: Counts, a row a true class, a column a predicted one.
        states: By layer, its most frequent states, the most frequent first: which neurons fire, and
            the share of observations in that state.
        neurons: By layer, how often each neuron fires, and the first one that determines it.
        demonstration: The network and some samples for the page to run it on: JSON, see
            ``export.device.browser``; None for a network that a page cannot run.
    """

    trial: str = ""
    confusion: Sequence[Sequence[int]] = ()
    states: Mapping[str, Sequence[tuple[Sequence[bool], float]]] = field(default_factory=dict)
    neurons: Neurons = field(default_factory=dict)
    demonstration: Mapping[str, Any] | None = None


# Beside the name of a finalist that may not become the champion.
_REFUSED = "<br><i>misses a constraint</i>"


def finalists(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """Finalists on fresh seeds: each seed, mean and standard deviation, and the value that elected them."""
    found = facts.finalists
    if not found:
        return None
    name = facts.objective
    labels = [facts.label(f.explored) + ("" if f.feasible else _REFUSED) for f in found]
    further = go.Scatter(
        x=[_reached(r, name) for f in found for r in f.further],
        y=[label for f, label in zip(found, labels, strict=True) for _ in f.further],
        text=[facts.hover(r) + f"<br>seed {r.seed}" for f in found for r in f.further],
        mode="markers",
        name="further seed, no part in the choice",
        marker={"size": 8, "symbol": "circle-open", "color": BLUE},
        hovertemplate="%{text}<extra></extra>",
    )
    seeds = go.Scatter(
        x=[_reached(r, name) for f in found for r in f.judges],
        y=[label for f, label in zip(found, labels, strict=True) for _ in f.judges],
        text=[facts.hover(r) + f"<br>seed {r.seed}" for f in found for r in f.judges],
        mode="markers",
        name="fresh seed",
        marker={"size": 8, "color": BLUE, "opacity": 0.6},
        hovertemplate="%{text}<extra></extra>",
    )
    first = go.Scatter(
        x=[facts.shown(facts.score(f.explored)) for f in found],
        y=labels,
        mode="markers",
        name="when exploring",
        marker={"size": 11, "symbol": "diamond-open", "color": ORANGE, "line": {"width": 2}},
        hovertemplate="exploring: %{x:.4f}<extra>%{y}</extra>",
    )
    mean = go.Scatter(
        x=[facts.shown(f.validation["objective"].mean) for f in found],
        y=labels,
        error_x={
            "type": "data",
            "array": [f.validation["objective"].sd for f in found],
            "thickness": 2,
            "width": 6,
        },
        mode="markers",
        name="mean ± standard deviation",
        marker={"size": 12, "symbol": "line-ns", "color": BEST, "line": {"width": 3, "color": BEST}},
        hovertemplate="mean %{x:.4f}<extra>%{y}</extra>",
    )
    drawn = figure(
        [seeds, *([further] if further.x else []), first, mean],
        f"validation {facts.goal}",
        "",
        height=150 + 46 * len(found),
    )
    drawn.update_yaxes(autorange="reversed")
    return drawn, _verdict(facts)


def _reached(record: TrialRecord, name: str) -> float:
    """A seed's number as it is judged: nothing for one that failed."""
    return record.scored.get(name, 0.0) if record.state is TrialState.COMPLETE else 0.0


def _verdict(facts: StudyFacts) -> str:
    found = facts.finalists
    spreads = [f.validation["objective"] for f in found]
    drop = sum(facts.score(f.explored) - s.mean for f, s in zip(found, spreads, strict=True)) / len(found)
    seeds = counted(max(s.n for s in spreads), "fresh seed")
    refused = sum(not f.feasible for f in found)
    text = (
        f"{counted(len(found), 'finalist')}, trained again on {seeds}, "
        f"{'lost' if drop >= 0 else 'gained'} {abs(drop):.3f} on average against the first run. "
    )
    if refused:
        text += f"{counted(refused, 'finalist')} below cannot win: on average a constraint is missed. "
    eligible = [f.validation["objective"] for f in found if f.feasible]
    if len(eligible) < 2:
        return text
    one, two = eligible[:2]
    gap = one.mean - two.mean
    noise = (one.sd**2 / one.n + two.sd**2 / two.n) ** 0.5
    clear = "more" if gap > 2 * noise else "less"
    return text + (
        f"The best mean leads the second by {gap:.3f}, {clear} than twice the standard error of that "
        f"difference ({noise:.3f})" + ("." if clear == "more" else ": it takes more seeds to separate them.")
    )


def learning_curves(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """Losses, and aIQ with its parts, over the champion's epochs."""
    record = facts.winner.record if facts.winner else None
    if record is None or not record.history:
        return None
    drawn = make_subplots(1, 2, horizontal_spacing=0.09)
    sides = {"loss": 1, "train_loss": 1, "aiq": 2, "accuracy": 2, "efficiency": 2}
    for (name, side), color in zip(sides.items(), (BLUE, ORANGE, BEST, "#009e73", "#b8a800"), strict=True):
        column = record.history.get(name)
        if column:
            trace = go.Scatter(
                x=list(range(1, len(column) + 1)), y=list(column), name=name, mode="lines+markers"
            )
            trace.line.color = color
            drawn.add_trace(trace, 1, side)
    style(drawn, 380)
    drawn.update_xaxes(title="epoch", rangemode="tozero")
    if record.epoch is not None:
        drawn.add_vline(x=record.epoch, line={"color": GREY, "dash": "dash", "width": 1})
    text = f"{facts.label(record)}, seed {record.seed}. The dashed line is epoch {record.epoch}, the lowest "
    loss = record.history.get("loss", [])
    text += "validation loss: all numbers and the weights are those of that epoch."
    if record.epoch is not None and loss and record.epoch >= len(loss):
        text += " It is the last one: the network may still improve with more epochs."
    return drawn, text


def confusion(facts: StudyFacts, view: NetworkView) -> tuple[go.Figure, str] | None:
    """The champion's confusion matrix on the validation split."""
    if not view.confusion:
        return None
    names = list(facts.document.dataset.classes)
    shares = [[n / max(1, sum(row)) for n in row] for row in view.confusion]
    right = [share[number] for number, share in enumerate(shares)]
    present = [share for share, row in zip(right, view.confusion, strict=True) if sum(row)]
    rows = [f"{name} · {share:.0%}" for name, share in zip(names, right, strict=True)]
    # The diagonal would take the whole scale: mistakes are what one wants to see.
    wrong = [[0.0 if i == j else s for j, s in enumerate(row)] for i, row in enumerate(shares)]
    heat = go.Heatmap(
        z=wrong,
        x=names,
        y=rows,
        text=[[str(n) if n else "" for n in row] for row in view.confusion],
        texttemplate="%{text}" if len(names) <= 20 else None,
        textfont={"size": 11},
        colorscale=[[0, "rgba(138,143,152,0.06)"], [1, BEST]],
        showscale=False,
        customdata=shares,
        hovertemplate="%{y} taken for %{x}: %{text} (%{customdata:.1%})<extra></extra>",
    )
    drawn = figure([heat], "predicted", "true class · its accuracy", height=480)
    drawn.update_yaxes(autorange="reversed", type="category", showgrid=False)
    drawn.update_xaxes(type="category", showgrid=False)
    pairs = [(s, i, j) for i, row in enumerate(wrong) for j, s in enumerate(row)]
    share, i, j = max(pairs)
    worst = (
        f" Most often {names[i]} is taken for {names[j]} ({share:.1%})."
        if share > 0
        else " No mistake at all."
    )
    return drawn, (
        "Counts on the validation split; the colour is the share of mistakes in a row, and beside each class "
        f"is its accuracy ({sum(present) / len(present):.1%} on average over the classes).{worst}"
    )


def frequent_states(facts: StudyFacts, view: NetworkView) -> tuple[go.Figure, str] | None:
    """The most frequent states of each hidden layer: which neurons fire together, and how often."""
    layers = {name: list(states)[:STATES] for name, states in view.states.items() if states}
    if not layers:
        return None
    drawn = make_subplots(
        len(layers), 1, vertical_spacing=0.3 / len(layers), subplot_titles=[f"layer {n}" for n in layers]
    )
    for row, states in enumerate(layers.values(), start=1):
        drawn.add_trace(
            go.Heatmap(
                z=[[int(on) for on in list(pattern)[:NEURONS]] for pattern, _ in states],
                y=[f"{i}. {share:.1%}" for i, (_, share) in enumerate(states, start=1)],
                colorscale=[[0, "rgba(138,143,152,0.15)"], [1, BLUE]],
                showscale=False,
                xgap=1,
                ygap=1,
                zmin=0,
                zmax=1,
                hovertemplate="neuron %{x}: %{z}<extra>%{y}</extra>",
            ),
            row,
            1,
        )
    style(drawn, 90 + sum(70 + 20 * len(s) for s in layers.values()))
    drawn.update_yaxes(autorange="reversed", type="category", showgrid=False)
    drawn.update_xaxes(showgrid=False, dtick=1 if max(len(s[0][0]) for s in layers.values()) <= 16 else None)
    drawn.update_xaxes(title="neuron", row=len(layers))
    covered = {name: sum(share for _, share in states) for name, states in layers.items()}
    said = ", ".join(f"{share:.0%} of {name}" for name, share in covered.items())
    return drawn, (
        "A row is a state (blue fires) with its share of the observations. These rows cover "
        f"{said}. Even shares over many states are what efficiency rewards; a column that never changes "
        "is a neuron that carries nothing."
    )
