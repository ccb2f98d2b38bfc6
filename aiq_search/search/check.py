"""What can be wrong with a space beyond its own file: names and ranges that the network refuses."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from aiq_search.errors import InputError
from aiq_search.models import Architecture, check_argument_names, layer_outputs
from aiq_search.space.constraint import EFFICIENCY_OF
from aiq_search.space.errors import SpaceError
from aiq_search.space.parameters import CategoricalParameter, DerivedParameter, Scalar
from aiq_search.space.points import drawn, grid
from aiq_search.space.schema import SearchSpace
from aiq_search.statespace.selection import default_layers
from aiq_search.suggest import did_you_mean
from aiq_search.training import TrainingOptions
from aiq_search.user_code import is_reference

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_names", "check_networks", "corner"]

# How many drawn configurations stand for a corner that the constraints refuse, and for all the networks.
_FOR_CORNER = 200
_FOR_LAYERS = 20


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
            for value in _extremes(parameter):
                space.training_options({name: value})
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

    Of a choice, the first, or last; parameters whose condition does not hold are absent. Where the
    constraints on parameters refuse it, the lowest, or highest, of many drawn configurations.

    Raises:
        SpaceError: The constraints leave next to nothing, or an expression cannot be computed.
    """
    params = space.suggest(_Corner(widest))
    if space.allows(params):
        return params
    candidates = grid(space) if space.search.sampler.name == "grid" else drawn(space)
    points = list(islice(candidates, _FOR_CORNER))
    if not points:
        raise SpaceError("objective.constraints: the constraints on parameters allow no configuration.")
    return (max if widest else min)(points, key=lambda point: _height(space, point))


class _Corner:
    """A suggester that answers with the lowest, or highest, value."""

    def __init__(self, widest: bool) -> None:
        self._widest = widest

    def suggest_int(self, name: str, low: int, high: int, **_: Any) -> int:  # noqa: ANN401
        return high if self._widest else low

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:  # noqa: ANN401
        return high if self._widest else low

    def suggest_categorical(self, name: str, choices: Any) -> Any:  # noqa: ANN401
        return choices[-1 if self._widest else 0]


def _height(space: SearchSpace, point: dict[str, Scalar]) -> float:
    """How high a configuration stands in its ranges, on average: from 0 to 1."""
    heights = []
    for name, value in point.items():
        parameter = space.parameters[name]
        if isinstance(parameter, CategoricalParameter):
            heights.append(parameter.choices.index(value) / len(parameter.choices))
        elif not isinstance(parameter, DerivedParameter):
            heights.append((float(value) - parameter.low) / ((parameter.high - parameter.low) or 1))  # type: ignore[arg-type]
    return sum(heights) / len(heights)


def check_networks(space: SearchSpace, input_shape: tuple[int, ...], classes: int) -> None:
    """Check that the narrowest and the widest network can be built for the data, and what is asked of them.

    Args:
        space: The space.
        input_shape: Shape of one sample.
        classes: Number of classes.

    Raises:
        SpaceError: The model refuses its arguments or the shape of the data, or a constraint is on the
            efficiency of a layer that no network has.
    """
    corners = [corner(space, widest=widest) for widest in (False, True)]
    networks = [_network(space, params, input_shape, classes) for params in corners]
    for params in corners:
        space.training_options(params)
    asked = {
        constraint.name.removeprefix(EFFICIENCY_OF)
        for constraint in space.objective.number_constraints
        if constraint.name.startswith(EFFICIENCY_OF)
    }
    unknown = asked - _measured(networks, input_shape) if asked else set()
    if not unknown:
        return
    # A layer may stand in neither corner: between them, or under another choice.
    networks += [
        _network(space, params, input_shape, classes) for params in islice(drawn(space), _FOR_LAYERS)
    ]
    known = _measured(networks, input_shape)
    for layer in sorted(unknown - known):
        raise SpaceError(
            f"objective.constraints: no network of the space has a hidden layer {layer!r}, whose "
            f"{EFFICIENCY_OF}{layer} could be bounded; {did_you_mean(layer, known)}"
        )


def _network(
    space: SearchSpace, params: dict[str, Any], input_shape: tuple[int, ...], classes: int
) -> nn.Module:
    """The network of a configuration, without its memory.

    Raises:
        SpaceError: It cannot be built.
    """
    architecture = Architecture(space.model.name, space.model_arguments(params), input_shape, classes)
    try:
        return _build(architecture)
    except InputError as error:
        raise SpaceError(f"model: {error}") from None
    except Exception as error:
        if not is_reference(space.model.name):
            raise
        said = ", ".join(f"{name}={value!r}" for name, value in params.items())
        raise SpaceError(
            f"model: {space.model.name} raised {type(error).__name__}: {error} (with {said})"
        ) from error


def _build(architecture: Architecture) -> nn.Module:
    """Build a network without its memory; where its code cannot do without numbers, for real."""
    import torch

    try:
        with torch.device("meta"):
            return architecture.build()
    except InputError:
        raise
    except Exception:
        return architecture.build()


def _measured(networks: Iterable[nn.Module], input_shape: tuple[int, ...]) -> set[str]:
    """The layers whose efficiency any of the networks reports: all but the one that runs last."""
    names: set[str] = set()
    for network in networks:
        ran = list(layer_outputs(network, input_shape))
        names |= default_layers(network).keys() - set(ran[-1:])
    return names
