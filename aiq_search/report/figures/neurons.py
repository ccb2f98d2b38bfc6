"""The network as a drawing: its layers, how often each neuron fires, and which neurons carry nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from aiq_search.report.figures.style import BAD, GREY, SCALE, figure
from aiq_search.words import counted

if TYPE_CHECKING:
    from aiq_search.statespace.counts import StateCounts

__all__ = ["Neurons", "drawing", "neurons_of"]

# Neurons that are drawn of a layer: more would be a line.
_DRAWN = 64

# By layer, for each neuron how often it fires, and the first neuron that determines it.
Neurons = Mapping[str, Sequence[tuple[float, int]]]


def neurons_of(counts: StateCounts) -> list[tuple[float, int]]:
    """How often each neuron of a layer fires, and the first neuron that determines it: often itself.

    Args:
        counts: The layer's states.
    """
    first = {neuron: group.neurons[0] for group in counts.groups for neuron in group.neurons}
    shares = (counts.on_counts / counts.observations).tolist()
    return [(share, first.get(number, number)) for number, share in enumerate(shares)]


def drawing(layers: Neurons) -> tuple[go.Figure, str] | None:
    """A column of dots for each hidden layer, coloured by how often the neuron fires.

    Args:
        layers: Each layer's neurons.
    """
    if not layers:
        return None
    names = list(layers)
    found: dict[str, list[tuple[int, float, float, str]]] = defaultdict(list)
    for place, neurons in enumerate(layers.values()):
        shown = neurons[:_DRAWN]
        for number, (share, twin) in enumerate(shown):
            height = len(shown) / 2 - number
            kind = _kind(share, twin, number)
            note = f"neuron {number} of {names[place]}, fires {share:.1%}"
            note += f", determined by neuron {twin}" if kind == "twin" else ""
            found[kind].append((place, height, share, note))
    drawn = figure(
        [_dots(kind, found[kind]) for kind in ("works", "twin", "constant") if found[kind]],
        "",
        "",
        height=140 + 14 * min(_DRAWN, max(map(len, layers.values()))),
    )
    labels = [f"{name}<br>{counted(len(layers[name]), 'neuron')}" for name in names]
    drawn.update_xaxes(tickvals=list(range(len(names))), ticktext=labels, showgrid=False)
    drawn.update_xaxes(range=[-0.6, len(names) - 0.4])
    drawn.update_yaxes(visible=False)
    return drawn, _caption(layers)


def _kind(share: float, twin: int, number: int) -> str:
    if share in (0.0, 1.0):
        return "constant"
    return "works" if twin == number else "twin"


def _dots(kind: str, dots: Sequence[tuple[int, float, float, str]]) -> go.Scatter:
    marker = {
        "works": {"symbol": "circle", "line": {"width": 0}},
        "twin": {"symbol": "diamond", "line": {"width": 2, "color": BAD}},
        "constant": {"symbol": "x", "line": {"width": 0}},
    }[kind]
    colour = {"color": [share for _, _, share, _ in dots], "colorscale": SCALE, "cmin": 0, "cmax": 1}
    if kind == "constant":
        colour = {"color": GREY}
    title = {"works": "fires for some", "twin": "determined by another", "constant": "never or always fires"}
    return go.Scatter(
        x=[place for place, *_ in dots],
        y=[height for _, height, *_ in dots],
        text=[note for *_, note in dots],
        mode="markers",
        name=title[kind],
        marker={"size": 11, **colour, **marker},
        hovertemplate="%{text}<extra></extra>",
    )


def _caption(layers: Neurons) -> str:
    text = (
        "A column is a hidden layer, a dot one of its neurons: blue fires for few inputs, orange for most. "
        "Measured on the validation split."
    )
    for name, neurons in layers.items():
        kinds = [_kind(share, twin, number) for number, (share, twin) in enumerate(neurons)]
        constant, twins = kinds.count("constant"), kinds.count("twin")
        found = [counted(constant, "neuron", "never change")] if constant else []
        found += [counted(twins, "neuron", "repeat") + " another or its opposite"] if twins else []
        text += f" In {name} {' and '.join(found)}." if found else ""
    wide = [name for name, neurons in layers.items() if len(neurons) > _DRAWN]
    return text + (f" Of {', '.join(wide)} the first {_DRAWN} neurons are drawn." if wide else "")
