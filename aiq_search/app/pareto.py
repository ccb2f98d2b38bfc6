"""The Pareto front of a study."""

from __future__ import annotations

from typing import Any

from aiq_search.app.remote import AnyStudy
from aiq_search.study import ParetoFront, Phase, pareto_front

__all__ = ["front_document", "front_of"]


def front_of(study: AnyStudy) -> ParetoFront:
    """The front of a study's objectives; of accuracy and efficiency where it has but one."""
    directions = study.space.objective.directions
    if len(directions) == 1:
        directions = (("accuracy", "maximize"), ("efficiency", "maximize"))
    return pareto_front(study.records(Phase.EXPLORE), directions)


def front_document(study: AnyStudy, front: ParetoFront) -> dict[str, Any]:
    """A front as a JSON document."""
    return {
        "study": study.id,
        "objectives": dict(front.directions),
        "reference": dict(zip((name for name, _ in front.directions), front.reference, strict=True)),
        "hypervolume": front.hypervolume,
        "trials": [
            {"trial": record.key.number, **record.metrics, "params": dict(record.params)}
            for record in front.records
        ],
    }
