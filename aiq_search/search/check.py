"""Checks of a space beyond its file: names, options, and networks that cannot be built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from aiq_search.datasets import check_options, known_shape
from aiq_search.errors import InputError
from aiq_search.models import Architecture, check_argument_names, check_model_name
from aiq_search.search.layers import check_layers
from aiq_search.search.lowerable import check_lowerable
from aiq_search.search.machine import Machine
from aiq_search.search.pruners import create_pruner
from aiq_search.search.samplers import create_sampler
from aiq_search.space.errors import Key, SpaceError, shown
from aiq_search.space.parameters import Categorical, Derived, Scalar
from aiq_search.space.points import drawn, grid
from aiq_search.space.schema import SearchSpace
from aiq_search.suggest import did_you_mean
from aiq_search.training import AugmentOptions, TrainingOptions
from aiq_search.user_code import NO_CODE, CodePolicy, describe_error, is_reference

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "blame_data",
    "check_names",
    "check_networks",
    "check_space",
    "corner",
    "described",
    "network",
    "raised",
    "training_bytes",
    "unchecked_code",
]

# How many drawn configurations represent a corner that the constraints refuse, and all the networks.
_FOR_CORNER = 200
_FOR_LAYERS = 20

# A longer configuration is cut in messages.
_DESCRIBED = 8

# Besides its weights a trial keeps gradients, momentum, the best epoch and a copy being written.
_COPIES = 5


def check_space(space: SearchSpace, code: CodePolicy = NO_CODE, machine: Machine | None = None) -> None:
    """Check everything that can be checked without the data.

    Args:
        space: The space.
        code: Which code it may name. By default no code is imported, and a network of the user's own is not
            checked.
        machine: Where trials run; None where that is another machine.

    Raises:
        SpaceError: Something in the file is wrong.
    """
    check_names(space, code)
    _check_search(space)
    _check_cuda_graphs(space)
    if machine is not None:
        _check_resources(space, machine)
    for widest in (False, True):
        space.training_options(corner(space, widest=widest))
    shape = known_shape(space.dataset.name)
    if shape is not None:
        check_networks(space, *shape, code, machine)


def unchecked_code(space: SearchSpace, code: CodePolicy = NO_CODE) -> list[str]:
    """The functions that a space names and that may not be imported."""
    names = [name for name in (space.model.name, space.dataset.name) if is_reference(name)]
    return [name for name in names if not code.allows(name)]


def check_names(space: SearchSpace, code: CodePolicy = NO_CODE) -> None:
    """Check that the model and the data can exist, and that each parameter sets something.

    Args:
        space: The space.
        code: Which code it may name. By default nothing is imported, and the arguments of a network of the
            user's own are not checked.

    Raises:
        SpaceError: The model or the data are unknown, their code may not be imported, or a parameter sets
            nothing, sets what the file fixes, or leaves a training field's own range.
    """
    model, data = space.model.name, space.dataset.name
    _blame(space, ("model", "name"), check_model_name, model)
    blame_data(space, check_options, space.dataset)
    if code != NO_CODE:
        for section, name in (("model", model), ("dataset", data)):
            if is_reference(name):
                _blame(space, (section, "name"), code.check, name)
    knows_arguments = not is_reference(model) or code.allows(model)
    if knows_arguments:
        _blame(space, ("model", "name"), check_argument_names, model, (), code)
        for argument in space.model.arguments:
            _blame(space, ("model", argument), check_argument_names, model, [argument], code)
    for name, parameter in space.parameters.items():
        section, _, argument = name.partition(".")
        key = ("parameters", name)
        if name in ("training.engine", "training.cuda_graphs"):
            raise space.error(key, "all of a study is trained alike; set it in the section training")
        if section == "training":
            _check_field(space, key, argument)
        if section == "model" and knows_arguments:
            _blame(space, key, check_argument_names, model, [argument], code)
        if section == "model" and argument in space.model.arguments:
            raise space.error(key, f"model.{argument} is fixed in the section model; keep one of the two")
        if section == "training" and not isinstance(parameter, Derived):
            for value in _extremes(parameter):
                space.training_options({name: value})


def _check_field(space: SearchSpace, key: Key, name: str) -> None:
    """Check that a parameter sets a field of the training, or of its augmentation."""
    augment = name.startswith("augment.")
    fields = AugmentOptions.model_fields if augment else TrainingOptions.model_fields
    field = name.removeprefix("augment.")
    if field not in fields:
        section = "training.augment" if augment else "training"
        raise space.error(key, f"{section} has no field {field!r}; {did_you_mean(field, fields)}")


def _blame(space: SearchSpace, key: Key, check: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401
    """Run a check; what it finds is the fault of a key of the file."""
    try:
        check(*arguments)
    except InputError as error:
        message = str(error).removeprefix(".".join(map(str, key)) + ": ")
        raise space.error(key, message) from error.__cause__


def blame_data(space: SearchSpace, check: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
    """What a function gives that reads the data; what it finds is the fault of a field of ``dataset``."""
    try:
        return check(*arguments)
    except InputError as error:
        key, colon, message = str(error).partition(": ")
        if colon and key.startswith("dataset."):
            raise space.error(tuple(key.split(".")), message) from error.__cause__
        raise space.error(("dataset", "name"), str(error)) from error.__cause__


def _extremes(parameter: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(parameter, Categorical):
        return list(parameter.choices)
    return [parameter.low, parameter.high]


def _check_search(space: SearchSpace) -> None:
    """Check that the sampler, the pruner and the grid can be created."""
    search = space.search
    _blame(space, ("search", "pruner"), create_pruner, search.pruner)
    sampler = partial(create_sampler, search.sampler, search.seed, conditional=space.conditional)
    _blame(space, ("search", "sampler"), sampler)
    if search.sampler.name == "grid":
        next(grid(space), None)


def _check_cuda_graphs(space: SearchSpace) -> None:
    """Check that trials have what CUDA graphs need, on whatever machine."""
    if not space.training.cuda_graphs:
        return
    if not space.resources.gpu:
        missing = "a trial has no GPU (resources.gpu is 0); set resources.gpu above 0"
    elif space.training.device == "cpu":
        missing = "training.device is cpu; set the device to auto"
    elif space.training.engine == "compiled":
        missing = "the compiled engine uses no GPU; set the engine to auto"
    else:
        return
    raise space.error(("training", "cuda_graphs"), f"{missing}, or cuda_graphs to false")


def _check_resources(space: SearchSpace, machine: Machine) -> None:
    """Check that this machine can run one trial."""
    elsewhere = "or search on a cluster that has them (--address, or aiq submit)"
    if space.resources.gpu > machine.gpus:
        raise space.error(
            ("resources", "gpu"),
            f"a trial takes {space.resources.gpu:g} GPU, but this machine has {machine.gpus}; "
            f"lower it, {elsewhere}",
        )
    if space.resources.cpu > machine.cpus:
        raise space.error(
            ("resources", "cpu"),
            f"a trial takes {space.resources.cpu} CPU cores, but this machine has {machine.cpus}; "
            f"lower it, {elsewhere}",
        )
    if space.training.device == "cuda" and not space.resources.gpu:
        raise space.error(
            ("training", "device"),
            "a trial without a GPU cannot train on cuda; set resources.gpu above 0, or the device to cpu",
        )
    if space.training.engine == "compiled" and space.resources.gpu:
        raise space.error(
            ("training", "engine"),
            "the compiled engine uses no GPU; set resources.gpu to 0, or the engine to torch",
        )


def corner(space: SearchSpace, *, widest: bool) -> dict[str, Any]:
    """The configuration with every parameter at its lowest, or highest, value.

    Of a choice, the first, or last; parameters whose condition does not hold are absent. Where the
    constraints on parameters refuse it, the lowest, or highest, of many drawn configurations.

    Raises:
        SpaceError: The constraints allow next to nothing, or an expression cannot be computed.
    """
    params = space.suggest(_Corner(widest))
    if space.allows(params):
        return params
    candidates = grid(space) if space.search.sampler.name == "grid" else drawn(space)
    points = list(islice(candidates, _FOR_CORNER))
    if not points:
        raise space.error(
            ("objective", "constraints"), "the constraints on parameters allow no configuration"
        )
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


def _height(space: SearchSpace, point: Mapping[str, Scalar]) -> float:
    """How high a configuration is in its ranges, on average: from 0 to 1."""
    parameters = ((space.parameters[name], value) for name, value in point.items())
    positions = [p.position(value) for p, value in parameters if not isinstance(p, Derived)]
    return sum(positions) / max(1, len(positions))


def check_networks(
    space: SearchSpace,
    input_shape: tuple[int, ...],
    classes: int,
    code: CodePolicy = NO_CODE,
    machine: Machine | None = None,
) -> None:
    """Check that the narrowest and the widest network can be built, and that all asked-for layers exist.

    Nothing is computed and no memory is taken. A network of the user's own that may not be imported is not
    checked.

    Args:
        space: The space.
        input_shape: Shape of one sample.
        classes: Number of classes.
        code: Which code it may name.
        machine: Where trials run; None where that is another machine.

    Raises:
        SpaceError: The model refuses its arguments or the shape of the data, a network is too large, what is
            captured or constrained is a layer that no network has, or a number that takes a device format is
            asked for of a network that has none.
    """
    if is_reference(space.model.name) and not code.allows(space.model.name):
        return
    corners = [corner(space, widest=widest) for widest in (False, True)]
    networks = [network(space, params, input_shape, classes, code) for params in corners]
    for params, each in zip(corners, networks, strict=True):
        space.training_options(params)
        needed = training_bytes(each)
        if machine is not None and needed > machine.memory:
            raise space.error(
                ("model",),
                f"a network is too large: to train it takes {needed / 1e9:,.0f} GB, and this machine has "
                f"{machine.memory / 1e9:,.0f} GB (with {described(params)})",
            )

    def more() -> list[nn.Module]:
        points = islice(drawn(space), _FOR_LAYERS)
        return [network(space, params, input_shape, classes, code) for params in points]

    check_layers(space, networks, more, input_shape)
    if space.objective.confirmed_measures or space.objective.costs:
        memory = Machine.here().memory
        fitting = [each for each in [*networks, *more()] if training_bytes(each) <= memory]
        check_lowerable(space, fitting, input_shape, here=machine is not None)


def training_bytes(model: nn.Module) -> int:
    """How much memory the weights take in training, and what is kept of their size besides."""
    tensors = (*model.parameters(), *model.buffers())
    weights: int = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return _COPIES * weights


def network(
    space: SearchSpace,
    params: Mapping[str, Any],
    input_shape: tuple[int, ...],
    classes: int,
    code: CodePolicy,
) -> nn.Module:
    """The network of a configuration, without its memory.

    Raises:
        SpaceError: It cannot be built.
    """
    architecture = Architecture(space.model.name, space.model_arguments(params), input_shape, classes, code)
    try:
        return _build(architecture)
    except InputError as error:
        raise space.error(("model",), str(error)) from error.__cause__
    except (RuntimeError, MemoryError, OverflowError) as error:
        if not is_reference(space.model.name):
            raise space.error(
                ("model",),
                f"a network is too large: {describe_error(error)} (with {described(params)})",
            ) from error
        raise raised(space, params, error) from error
    except Exception as error:
        if not is_reference(space.model.name):
            raise
        raise raised(space, params, error) from error


def raised(space: SearchSpace, params: Mapping[str, Any], error: Exception) -> SpaceError:
    """What the code of the user's network raised, as a sentence."""
    return space.error(
        ("model", "name"), f"{space.model.name} raised {describe_error(error)} (with {described(params)})"
    )


def described(params: Mapping[str, Any]) -> str:
    """A configuration in one short line."""
    values = [f"{name}={shown(value)}" for name, value in params.items()]
    return ", ".join(values[:_DESCRIBED]) + (", …" if len(values) > _DESCRIBED else "")


def _build(architecture: Architecture) -> nn.Module:
    """Build a network without its memory; where its code cannot do without numbers, for real."""
    import torch

    try:
        with torch.device("meta"):
            return architecture.build()
    except InputError:
        raise
    except Exception:
        if not is_reference(architecture.name):
            raise
        return architecture.build()
