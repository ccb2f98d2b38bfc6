"""Looking at a search-space file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from aiq_search.app.prepare import prepare_space
from aiq_search.errors import InputError
from aiq_search.report.words import counted
from aiq_search.search.check import check_networks
from aiq_search.search.samplers import constraints_note
from aiq_search.space import SearchSpace, SpaceError
from aiq_search.space.parameters import CategoricalParameter, DerivedParameter
from aiq_search.space.points import drawn, space_size

__all__ = ["CheckedSpace", "checked_space", "json_schema"]


@dataclass(frozen=True)
class CheckedSpace:
    """A search space in which nothing is wrong, as far as can be seen without its data.

    Attributes:
        space: The space.
        notes: Sentences about what its author may not expect.
    """

    space: SearchSpace
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Its name and its size, in a sentence."""
        return f"{self.space.name} has {counted(len(self.space.parameters), 'parameter')}."

    @property
    def size_sentence(self) -> str:
        """How many configurations there are, and how many are tried."""
        return f"{self.space.name}: {space_size(self.space)}; {self.space.search.trials:,} are tried."

    def parameter_rows(self) -> list[dict[str, Any]]:
        """A row for each parameter: name, type, range and condition."""
        rows = []
        for name, parameter in self.space.parameters.items():
            if isinstance(parameter, DerivedParameter):
                values = f"= {parameter.value}"
            elif isinstance(parameter, CategoricalParameter):
                values = ", ".join(str(choice) for choice in parameter.choices)
            else:
                values = f"{parameter.low:g} to {parameter.high:g}"
                values += ", log scale" if parameter.log else ""
                values += f", step {parameter.step:g}" if parameter.step else ""
                powers = getattr(parameter, "powers_of", None)
                values += f", powers of {powers}" if powers else ""
            rows.append({"parameter": name, "type": parameter.type, "range": values, "when": parameter.when})
        return rows

    def sample(self, number: int, seed: int) -> list[dict[str, Any]]:
        """Sample configurations at random.

        Raises:
            SpaceError: The constraints on parameters leave next to nothing.
        """
        return list(islice(drawn(self.space, seed), number))

    def document(self) -> dict[str, Any]:
        """The space as a JSON document, with its fingerprint and size."""
        size = str(space_size(self.space))
        return {**self.space.document(), "fingerprint": self.space.fingerprint, "size": size}


def checked_space(file: Path, overrides: Sequence[str] = ()) -> CheckedSpace:
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
    return CheckedSpace(space, tuple(filter(None, [constraints_note(space)])))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of search-space files."""
    return SearchSpace.model_json_schema()
