"""A study in words: what it asks, the command that started it, and the names of its networks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from aiq_search.study.progress import objective_of

__all__ = ["command_line", "question", "widths"]


def widths(document: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """The searched widths of a configuration, in the order of the space.

    Widths are the integer parameters of the model.

    >>> widths({}, {"model.conv1": 4, "model.dropout": 0.1, "model.batch_norm": True, "model.fc": 8})
    '4-8'
    """
    order = list((document.get("space") or {}).get("parameters") or params)
    names = sorted(params, key=lambda name: order.index(name) if name in order else len(order))
    values = [params[name] for name in names if name.startswith("model.")]
    return "-".join(str(x) for x in values if isinstance(x, int) and not isinstance(x, bool))


def command_line(document: Mapping[str, Any]) -> str:
    """The command that started a study, as one types it.

    >>> command_line({"command": ["aiq", "search", "my space.yaml"]})
    "aiq search 'my space.yaml'"
    """
    command = document.get("command") or "aiq search SPACE.yaml"
    return command if isinstance(command, str) else shlex.join(str(word) for word in command)


def question(document: Mapping[str, Any]) -> str:
    """One sentence: network, data, objective, constraints."""
    space = document.get("space") or {}
    dataset = document.get("dataset") or {}
    model = (space.get("model") or {}).get("name", "a network")
    objective = objective_of(document)
    goals = ", ".join(f"{direction} {name}" for name, direction in objective.directions)
    constraints = " and ".join(objective.constraints)
    sizes = (
        f" ({dataset['train']:,} examples to train, {dataset['validation']:,} to choose, "
        f"{dataset['test']:,} to judge)"
        if {"train", "validation", "test"} <= set(dataset)
        else ""
    )
    return (
        f"`{model}` on `{dataset.get('name', 'data')}`{sizes}: {goals} with "
        f"β = {document.get('beta', 2)}{', where ' + constraints if constraints else ''}."
    )
