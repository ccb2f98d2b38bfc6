"""A study in words: what it asks, the command that started it, and the names of its networks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from aiq_search.space import ObjectiveOptions, SearchSpace
from aiq_search.study.document import StudyDocument

__all__ = ["command_line", "meaning", "question", "widths"]


def widths(space: SearchSpace, params: Mapping[str, Any]) -> str:
    """The widths of a configuration, in the order of the space: ``4-2-8``.

    Widths are the integer parameters of the model.
    """
    order = list(space.parameters)
    names = sorted(params, key=lambda name: order.index(name) if name in order else len(order))
    values = [params[name] for name in names if name.startswith("model.")]
    return "-".join(str(x) for x in values if isinstance(x, int) and not isinstance(x, bool))


def command_line(document: StudyDocument) -> str:
    """The command that started a study, as one types it."""
    return shlex.join(document.provenance.command)


def meaning(objective: ObjectiveOptions) -> str:
    """What aIQ means, in a line, for who meets it for the first time.

    >>> meaning(ObjectiveOptions())
    'aIQ, from 0 to 1: how accurate a network is, and how fully it uses its neurons.'
    """
    name = objective.accuracy
    good = "accurate a network is" if name == "accuracy" else f"good a network's {name.replace('_', ' ')} is"
    return f"aIQ, from 0 to 1: how {good}, and how fully it uses its neurons."


def question(document: StudyDocument) -> str:
    """One sentence: network, data, objective, constraints."""
    dataset, objective = document.dataset, document.space.objective
    goals = ", ".join(f"{direction} {name}" for name, direction in objective.directions)
    constraints = " and ".join(objective.constraints)
    return (
        f"`{document.space.model.name}` on `{dataset.name}` ({dataset.train:,} examples to train, "
        f"{dataset.validation:,} to choose, {dataset.test:,} to judge): {goals} with "
        f"β = {document.beta:g}{', where ' + constraints if constraints else ''}."
    )
