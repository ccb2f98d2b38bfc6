"""What can be wrong with a space beyond its own file: names and ranges that the network refuses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from aiq_search.errors import InputError
from aiq_search.models import Architecture, check_argument_names
from aiq_search.space.errors import SpaceError
from aiq_search.space.parameters import CategoricalParameter, DerivedParameter
from aiq_search.space.schema import SearchSpace
from aiq_search.suggest import did_you_mean
from aiq_search.training import TrainingOptions
from aiq_search.user_code import is_reference

__all__ = ["check_names", "check_networks", "corner", "space_size"]


def check_names(space: SearchSpace) -> None:
    """Check that every parameter sets something that exists and is not fixed already.

    Args:
        space: The space. A model of the user's own is imported.

    Raises:
        SpaceError: A parameter sets nothing, sets what the file fixes, or leaves a training field's
            own range.
    """
    for name, parameter in space.parameters.items():
        section, _, argument = name.partition(".")
        try:
            if section == "training" and argument not in TrainingOptions.model_fields:
                hint = did_you_mean(argument, TrainingOptions.model_fields)
                raise InputError(f"training has no field {argument!r}; {hint}")
            if section == "model":
                check_argument_names(space.model.name, [argument])
                if argument in space.model.arguments:
                    raise InputError(f"model.{argument} is fixed in the section model; keep one of the two.")
        except InputError as error:
            raise SpaceError(f"parameters.{name}: {error}") from None
        if section == "training" and not isinstance(parameter, DerivedParameter):
            values = _extremes(parameter)
            for value in values:
                try:
                    space.training_options({name: value})
                except ValidationError as error:
                    reason = error.errors()[0]["msg"]
                    raise SpaceError(f"parameters.{name}: {value!r} is not possible: {reason}.") from None
    try:
        check_argument_names(space.model.name, space.model.arguments)
    except InputError as error:
        raise SpaceError(f"model: {error}") from None


def _extremes(parameter: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(parameter, CategoricalParameter):
        return list(parameter.choices)
    return [parameter.low, parameter.high]


def corner(space: SearchSpace, *, widest: bool) -> dict[str, Any]:
    """The configuration with every parameter at its lowest, or highest, value.

    Of a choice, the first, or last; parameters whose condition does not hold are absent.
    """

    class Corner:
        def suggest_int(self, name: str, low: int, high: int, **_: Any) -> int:  # noqa: ANN401
            return high if widest else low

        def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:  # noqa: ANN401
            return high if widest else low

        def suggest_categorical(self, name: str, choices: Any) -> Any:  # noqa: ANN401
            return choices[-1 if widest else 0]

    return space.suggest(Corner())


def check_networks(space: SearchSpace, input_shape: tuple[int, ...], classes: int) -> None:
    """Check that the narrowest and the widest network can be built for the data.

    Args:
        space: The space.
        input_shape: Shape of one sample.
        classes: Number of classes.

    Raises:
        SpaceError: The model refuses its arguments or the shape of the data.
    """
    for widest in (False, True):
        params = corner(space, widest=widest)
        architecture = Architecture(space.model.name, space.model_arguments(params), input_shape, classes)
        try:
            _build(architecture)
        except InputError as error:
            raise SpaceError(f"model: {error}") from None
        except Exception as error:
            if not is_reference(space.model.name):
                raise
            said = ", ".join(f"{name}={value!r}" for name, value in params.items())
            raise SpaceError(
                f"model: {space.model.name} raised {type(error).__name__}: {error} (with {said})"
            ) from error
        space.training_options(params)


def _build(architecture: Architecture) -> None:
    """Build a network without its memory; where its code cannot do without numbers, for real."""
    import torch

    try:
        with torch.device("meta"):
            architecture.build()
    except InputError:
        raise
    except Exception:
        architecture.build()


def space_size(space: SearchSpace) -> float:
    """How many configurations there are; infinite where a parameter is continuous."""
    counts: list[float] = [p.count for p in space.parameters.values() if not isinstance(p, DerivedParameter)]
    conditional = any(p.when for p in space.parameters.values()) or space.objective.parameter_constraints
    if math.inf in counts or not conditional:
        return math.prod(counts)
    return sum(1 for _ in grid(space))


def grid(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Every configuration of a discrete space, each once, in the file's order.

    Raises:
        SpaceError: A parameter is continuous.
    """
    searched = {n: p for n, p in space.parameters.items() if not isinstance(p, DerivedParameter)}
    for name, parameter in searched.items():
        if parameter.count == math.inf:
            raise SpaceError(
                f"parameters.{name}: a grid needs a step or choices for each parameter, "
                "but this one is continuous; give it a step, or take another sampler."
            )
    seen: set[str] = set()
    for values in itertools.product(*(parameter.values() for parameter in searched.values())):
        point = dict(zip(searched, values, strict=True))
        params = space.suggest(_Fixed(space, point))
        if repr(params) not in seen and space.allows(params):
            seen.add(repr(params))
            yield params


class _Fixed:
    """A suggester that answers with a given point."""

    def __init__(self, space: SearchSpace, point: dict[str, Any]) -> None:
        self._encoded = space.encode(point)

    def suggest_int(self, name: str, low: int, high: int, **_: Any) -> Any:  # noqa: ANN401
        return self._encoded[name]

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> Any:  # noqa: ANN401
        return self._encoded[name]

    def suggest_categorical(self, name: str, choices: Any) -> Any:  # noqa: ANN401
        return self._encoded[name]
