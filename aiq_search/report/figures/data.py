"""The data: how many examples each class has in each split."""

from __future__ import annotations

import plotly.graph_objects as go

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.report.figures.style import BLUE, GREY, ORANGE, figure

__all__ = ["class_balance"]

_SPLITS = {"train": BLUE, "validation": ORANGE, "test": GREY}
_NAMED = 40  # classes whose names fit below their bars


def class_balance(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """The share of each class in each split; None where the study does not know it, or has no result.

    Args:
        facts: The study.
    """
    data = facts.document.dataset
    counts = {split: data.class_counts.get(split, ()) for split in _SPLITS}
    if not facts.complete or not sum(counts["train"]):
        return None
    bars = [
        go.Bar(
            x=list(data.classes),
            y=[count / sum(numbers) for count in numbers],
            customdata=list(numbers),
            name=split,
            marker={"color": _SPLITS[split]},
            hovertemplate="%{x}: %{customdata:,} examples (%{y:.1%})<extra>%{fullData.name}</extra>",
        )
        for split, numbers in counts.items()
        if sum(numbers)
    ]
    drawn = figure(bars, "class", "share of the split", height=320, barmode="group")
    drawn.update_xaxes(type="category", showgrid=False, showticklabels=len(data.classes) <= _NAMED)
    drawn.update_yaxes(tickformat=".0%", rangemode="tozero")
    train = counts["train"]
    most, least = (f(range(len(train)), key=train.__getitem__) for f in (max, min))
    text = f"{data.train:,} examples to train, {data.validation:,} to choose and {data.test:,} to judge. "
    if train[most] == train[least]:
        return drawn, text + "Every class has as many examples to train."
    return drawn, text + (
        f"To train, {data.classes[most]} has the most examples ({train[most]:,}), {data.classes[least]} the "
        f"fewest ({train[least]:,})."
    )
