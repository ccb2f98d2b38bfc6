"""Looking at a search-space file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.app.options import RunOptions
from aiq_search.space import SearchSpace, load_space
from aiq_search.space.parameters import Categorical, Derived
from aiq_search.space.points import drawn, space_size
from aiq_search.space.shipped import shipped_spaces
from aiq_search.words import counted

if TYPE_CHECKING:
    from aiq_search.search.machine import Machine

__all__ = ["CheckedSpace", "checked_space", "json_schema", "shipped_spaces", "tried_space"]


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
        search = self.space.search
        if search.replicates > 1:
            seeds = f"each on {search.replicates} seeds; at most {search.trials:,} trainings"
            return f"{self.space.name}: {space_size(self.space)}, {seeds}."
        return f"{self.space.name}: {space_size(self.space)}; {search.trials:,} are tried."

    def parameter_rows(self) -> list[dict[str, Any]]:
        """A row for each parameter: name, type, range and condition."""
        rows = []
        for name, parameter in self.space.parameters.items():
            if isinstance(parameter, Derived):
                values = f"= {parameter.value}"
            elif isinstance(parameter, Categorical):
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
    """Read a file and check everything that can be checked without its data and its code.

    Raises:
        SpaceError: Something in it is wrong.
    """
    space = load_space(file, overrides)  # before torch, which the checks import
    from aiq_search.search.check import check_space, unchecked_code
    from aiq_search.search.samplers import constraints_note

    check_space(space, machine=_machine_of_trials())
    notes = [
        f"Not checked: {name}, since it is code; aiq space check {file} --data imports and tries it."
        for name in unchecked_code(space)
    ]
    return CheckedSpace(space, (*notes, *filter(None, [constraints_note(space)])))


def tried_space(file: Path, options: RunOptions) -> CheckedSpace:
    """Check a file as a search does before its study is created: with its data, its code and its networks.

    Args:
        file: A search-space file.
        options: What it would be run with: edits, the folder of the data, and packages of code.

    Raises:
        SpaceError: Something in it is wrong, its data cannot be loaded, or a network cannot be trained.
    """
    space = load_space(file, options.edits)
    from aiq_search.search.check import check_space, described
    from aiq_search.search.preflight import load_data, preflight
    from aiq_search.search.samplers import constraints_note

    code, machine = options.code, _machine_of_trials()
    check_space(space, code, machine)
    dataset = load_data(space, options.data_dir, code)
    notes = [
        f"Trained for one step, measured and read back from a checkpoint: {described(each.params)}; "
        f"{counted(each.parameters, 'parameter')}, layers {', '.join(each.layers)}."
        for each in preflight(space, dataset, code, machine)
    ]
    return CheckedSpace(space, (*dataset.warnings, *notes, *filter(None, [constraints_note(space)])))


def _machine_of_trials() -> Machine | None:
    """This machine, if a search would run here; None where the environment names a cluster."""
    from aiq_search.search.machine import Machine

    cluster = os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_API_SERVER_ADDRESS")
    return None if cluster else Machine.here()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of search-space files."""
    return SearchSpace.model_json_schema()
