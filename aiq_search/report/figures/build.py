"""All figures of a study, or of several, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiq_search.report.figures import (
    champion,
    data,
    layers,
    neurons,
    parameters,
    progress,
    side_by_side,
    timing,
    tradeoff,
)
from aiq_search.report.figures.facts import StudyFacts

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Picture", "build_comparison", "build_figures"]


@dataclass(frozen=True)
class Picture:
    """A figure with its name (of the artifact), its title and how to read it."""

    name: str
    title: str
    caption: str
    figure: go.Figure


def build_figures(facts: StudyFacts, view: champion.NetworkView | None = None) -> list[Picture]:
    """Draw a study.

    Args:
        facts: What was read of it.
        view: What only the networks themselves show.

    Returns:
        Pictures for which the study has enough trials; others are left out.
    """
    seen = view or champion.NetworkView()
    best = "champion" if facts.confirmed_winner else "best network so far"
    drawn = [
        ("tradeoff", "Accuracy against efficiency", tradeoff.accuracy_and_efficiency(facts)),
        ("size", "aIQ against size", tradeoff.aiq_and_parameters(facts)),
        ("finalists", "Finalists on fresh seeds", champion.finalists(facts)),
        ("layers", "Efficiency layer by layer", layers.layer_efficiencies(facts)),
        ("importances", "Which parameters mattered", parameters.importances(facts)),
        ("slices", "What each parameter does", parameters.slices(facts)),
        ("parallel", "All trials at once", parameters.parallel_coordinates(facts)),
        ("progress", "Best so far", progress.best_so_far(facts)),
        ("rungs", "Trials stopped early", progress.rungs(facts)),
        ("time", "Where the time went", timing.where_time_went(facts)),
        ("data", "The data", data.class_balance(facts)),
        ("learning", f"How the {best} learned", champion.learning_curves(facts)),
        ("confusion", f"Classes the {best} confuses", champion.confusion(facts, seen)),
        ("neurons", f"The {best}, neuron by neuron", neurons.drawing(seen.neurons)),
        ("states", f"What the {best}'s neurons do", champion.frequent_states(facts, seen)),
    ]
    return [Picture(name, title, made[1], made[0]) for name, title, made in drawn if made]


def build_comparison(studies: Sequence[StudyFacts]) -> tuple[list[Picture], list[float]]:
    """Draw several studies together.

    Args:
        studies: What was read of each.

    Returns:
        The pictures, and the hypervolume of each study.
    """
    fronts, how = side_by_side.fronts(studies)
    grown, caption, volumes = side_by_side.hypervolumes(studies)
    pictures = [
        Picture("fronts", "Fronts and champions", how, fronts),
        Picture("hypervolume", "How fast the front grew", caption, grown),
    ]
    return pictures, volumes
