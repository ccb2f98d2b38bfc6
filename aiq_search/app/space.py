"""Looking at a search-space file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from aiq_search.app.search import prepare_space
from aiq_search.errors import InputError
from aiq_search.search.check import check_networks
from aiq_search.space import SearchSpace, SpaceError
from aiq_search.space.parameters import CategoricalParameter, DerivedParameter
from aiq_search.space.points import drawn, space_size

__all__ = ["checked_space", "describe_parameters", "draw", "json_schema", "size_sentence"]


def checked_space(file: Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """Read a file and check everything that can be checked without loading its data.

    Raises:
        SpaceError: Something in it is wrong.
    """
    from aiq_search.datasets import known_shape
    from aiq_search.search.driver import StudyDriver

    space = prepare_space(file, overrides)
    try:
        StudyDriver.check(space)
        shape = known_shape(space.dataset.name)
        if shape is not None:
            check_networks(space, *shape)
    except InputError as error:
        raise SpaceError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from None
    return space


def describe_parameters(space: SearchSpace) -> list[dict[str, Any]]:
    """A row a parameter: name, type, range and condition."""
    rows = []
    for name, parameter in space.parameters.items():
        if isinstance(parameter, DerivedParameter):
            said = f"= {parameter.value}"
        elif isinstance(parameter, CategoricalParameter):
            said = ", ".join(str(choice) for choice in parameter.choices)
        else:
            said = f"{parameter.low:g} to {parameter.high:g}"
            said += ", log scale" if parameter.log else ""
            said += f", step {parameter.step:g}" if parameter.step else ""
            powers = getattr(parameter, "powers_of", None)
            said += f", powers of {powers}" if powers else ""
        rows.append({"parameter": name, "type": parameter.type, "range": said, "when": parameter.when})
    return rows


def size_sentence(space: SearchSpace) -> str:
    """How many configurations there are, and how many are tried."""
    return f"{space.name}: {space_size(space)}; {space.search.trials:,} are tried."


def draw(space: SearchSpace, number: int, seed: int) -> list[dict[str, Any]]:
    """Draw configurations at random.

    Raises:
        SpaceError: The constraints on parameters leave next to nothing.
    """
    return list(islice(drawn(space, seed), number))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of search-space files."""
    return SearchSpace.model_json_schema()
