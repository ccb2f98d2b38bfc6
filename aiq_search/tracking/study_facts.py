"""What a study's run in MLflow says beyond its trials: what is fixed, and what the champion gives up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiq_search.study.description import widths
from aiq_search.study.document import StudyDocument
from aiq_search.study.metrics import HEADLINE, SIZES

__all__ = ["DIGITS", "reference_line", "reference_numbers", "study_params"]

DIGITS = 4  # of means over seeds, which vary by hundredths


def study_params(document: StudyDocument) -> dict[str, Any]:
    """What is fixed for a study, by dotted name, so that studies can be compared; its budget is not."""
    space, searched = document.space.document(), document.space.parameters
    sections = {
        "model": space["model"],
        "dataset": {name: space["dataset"][name] for name in document.space.dataset.given},
        "search": {name: space["search"][name] for name in ("sampler", "pruner", "seed")},
        "training": {**space["training"], "augment": space["training"]["augment"] or None},
        "confirm": space["confirm"],
    }
    fixed = {f"{section}.{n}": v for section, values in sections.items() for n, v in values.items()}
    goals = [f"{direction} {name}" for name, direction in document.space.objective.directions]
    fixed |= {"objective": ", ".join(goals), "objective.beta": document.beta}
    fixed |= {"objective.constraints": " and ".join(document.space.objective.constraints) or None}
    return {
        name: _plain_param(value)
        for name, value in fixed.items()
        if value is not None and name not in searched
    }


def _plain_param(value: Any) -> Any:  # noqa: ANN401 - of a space
    """A name alone where a value has no more, else as people write it in the file."""
    if isinstance(value, Mapping):
        options = {name: option for name, option in value.items() if option is not None}
        return options["name"] if options.keys() == {"name"} else json.dumps(options)
    return value


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
