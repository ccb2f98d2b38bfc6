"""What a study's run in MLflow says beyond its trials: what is fixed, and what the champion gives up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiq_search.datasets.options import FIELDS_OF
from aiq_search.study.description import widths
from aiq_search.study.document import StudyDocument
from aiq_search.study.metrics import HEADLINE, SIZES

__all__ = ["DIGITS", "reference_line", "reference_numbers", "study_params"]

DIGITS = 6  # of means over seeds: more say nothing, and fill MLflow's table


def study_params(document: StudyDocument) -> dict[str, Any]:
    """What is fixed for a study, by dotted name, so that studies can be compared; its budget is not."""
    space, objective = document.space.document(), document.space.objective
    own = document.space.dataset.given
    fixed = {
        "model": space["model"],
        "dataset": {n: v for n, v in space["dataset"].items() if n not in FIELDS_OF or n in own},
        "objective": ", ".join(f"{direction} {name}" for name, direction in objective.directions),
        "objective.constraints": " and ".join(objective.constraints) or None,
        "objective.beta": document.beta,
        "search": {name: space["search"][name] for name in ("sampler", "pruner", "seed")},
        "training": space["training"],
        "confirm": space["confirm"],
    }
    return {n: v for n, v in _flat(fixed) if v is not None and n not in document.space.parameters}


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name; a section's own name stands for the name that it has."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield (prefix.rstrip(".") if name == "name" and prefix else f"{prefix}{name}"), value


def reference_numbers(comparison: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of the reference network; none where it was not measured on the champion's seeds."""
    if not comparison["confirmed"]:
        return {}
    numbers = {f"reference/test/{n}": s["mean"] for n, s in comparison["test"].items() if n in HEADLINE}
    numbers |= {"reference/points_lost": comparison["points_lost"]["mean"]}
    numbers |= {f"reference/{name}": comparison[name] for name in (*SIZES, "times_fewer_parameters")}
    return {name: round(value, DIGITS) for name, value in numbers.items()}


def reference_line(document: StudyDocument, comparison: Mapping[str, Any] | None) -> str:
    """The champion beside the reference network in a line; empty where that was not trained."""
    if not comparison or not comparison["confirmed"]:
        return ""
    lost, name = comparison["points_lost"], widths(document.space, comparison["params"])
    return (
        f"{lost['mean']:.2f} ± {lost['sd']:.2f} percentage points lost against {name or 'the most accurate'} "
        f"on the same {lost['n']} seeds, {comparison['times_fewer_parameters']:,.1f} times fewer parameters"
    )
