"""Arguments that belong to one stage of a network: a name and a number, such as ``width3``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aiq_search.errors import InputError
from aiq_search.models.layers import check_width

__all__ = ["check_depth", "of_stages"]

# More stages than any network of these families has: a slip of the finger.
_MOST = 1000


def of_stages(model: str, kinds: Sequence[str], given: Mapping[str, Any]) -> dict[tuple[str, int], Any]:
    """What is given for single stages, by name and number of the stage.

    Args:
        model: The network, for messages.
        kinds: Names that may have a number behind them.
        given: Arguments.

    Raises:
        InputError: An argument is none of these names with a number from 1 behind it.

    Example:
        >>> of_stages("cnn", ["width", "kernel"], {"width1": 4, "kernel2": 5})
        {('width', 1): 4, ('kernel', 2): 5}
    """
    found: dict[tuple[str, int], Any] = {}
    for name, value in given.items():
        match = re.fullmatch(rf"({'|'.join(kinds)})([1-9][0-9]*)", name)
        if match is None:
            raise InputError(
                f"{model} has no argument {name!r}; what belongs to a stage is called "
                f"{', '.join(f'{kind}<number>' for kind in kinds)}."
            )
        found[match[1], int(match[2])] = value
    return found


def check_depth(model: str, depth: Any, most: int = _MOST) -> None:  # noqa: ANN401 - a file's value
    """Raise InputError unless ``depth`` is a possible number of stages."""
    check_width("depth", depth)
    if depth > most:
        raise InputError(f"{model} has at most {most:,} stages, but got depth={depth:,}.")
