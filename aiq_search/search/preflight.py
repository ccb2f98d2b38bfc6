"""Preflight: before a study is created, its narrowest and widest network are tried on a few samples."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.alarm import calling_every
from aiq_search.datasets import Dataset, Split, load_dataset
from aiq_search.errors import InputError, first_line
from aiq_search.lowering.costs import CostMeter
from aiq_search.lowering.onnx_extra import onnx_available
from aiq_search.models import Architecture, model_size
from aiq_search.search.check import (
    blame_data,
    check_networks,
    corner,
    described,
    network,
    raised,
    training_bytes,
)
from aiq_search.search.layers import measured_layers
from aiq_search.search.lowerable import cannot_be_measured
from aiq_search.search.machine import Machine
from aiq_search.search.samplers import create_sampler
from aiq_search.space.errors import SpaceError
from aiq_search.space.schema import SearchSpace
from aiq_search.statespace import evaluation_mode
from aiq_search.training import DivergedError, TensorSplit, TrainingRun, load_checkpoint, save_checkpoint
from aiq_search.training.augment import Augmentation
from aiq_search.training.kernel_cache import are_compiled
from aiq_search.training.lowered import costs, int8_accuracies
from aiq_search.training.measures import Measures
from aiq_search.user_code import NO_CODE, CodePolicy, is_reference

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TriedNetwork", "as_a_trial", "load_data", "part_of", "preflight"]

_SAMPLES = 16

# A network that takes longer for these samples is taken for one that hangs.
_SECONDS = 60.0

# By default Optuna's samplers begin to learn after ten trials.
_SAMPLER_TRIALS = 12


@dataclass(frozen=True)
class TriedNetwork:
    """A network that was trained for one step and measured.

    Attributes:
        params: Its configuration.
        parameters: Trainable numbers.
        macs: Multiply-accumulates of a forward pass of one sample.
        layers: The layers whose states are measured.
    """

    params: Mapping[str, Any]
    parameters: int
    macs: int
    layers: tuple[str, ...]


def load_data(space: SearchSpace, data_dir: Path | None = None, code: CodePolicy = NO_CODE) -> Dataset:
    """Load the data of a space.

    Raises:
        SpaceError: They are missing or damaged, their code may not be imported, or it raises.
    """
    dataset: Dataset = blame_data(space, load_dataset, space.dataset, data_dir, code)
    return dataset


def preflight(
    space: SearchSpace, dataset: Dataset, code: CodePolicy = NO_CODE, machine: Machine | None = None
) -> list[TriedNetwork]:
    """Try the narrowest and the widest network of a space, so that no study is created that cannot succeed.

    Each is built, trained for one step, measured, written as a checkpoint, and read back.

    Args:
        space: The space, whose names are checked.
        dataset: Its data.
        code: Which code it may name.
        machine: Where trials run; None where that is another machine. A network that is too large for this
            one is then not tried.

    Returns:
        The networks that were tried.

    Raises:
        SpaceError: A network cannot be built, trained, measured or kept.
    """
    _check_sampler(space)
    _check_measures(space, dataset)
    shape, classes = dataset.input_shape, len(dataset.classes)
    check_networks(space, shape, classes, code, machine)
    networks = []
    for widest in (False, True):
        params = corner(space, widest=widest)
        _check_augmentation(space, params, shape)
        if training_bytes(network(space, params, shape, classes, code)) > Machine.here().memory:
            continue
        try:
            networks.append(_try(space, params, dataset, code))
        except DivergedError:
            continue  # a search takes that for a failed trial
        except SpaceError:
            raise
        except InputError as error:
            raise space.error(("model",), f"{error} (with {described(params)})") from error.__cause__
        except Exception as error:
            if not (is_reference(space.model.name) or isinstance(error, MemoryError | RuntimeError)):
                raise
            raise raised(space, params, error) from error
    return networks


def _try(space: SearchSpace, params: Mapping[str, Any], dataset: Dataset, code: CodePolicy) -> TriedNetwork:
    """Train a network for one step, measure it, and write and read a checkpoint.

    Raises:
        InputError: The network cannot be searched.
        DivergedError: The loss became NaN or infinite.
    """
    name, shape, classes = space.model.name, dataset.input_shape, len(dataset.classes)
    options = space.training_options(params).model_copy(update={"device": "cpu", "cuda_graphs": False})
    if options.engine == "auto" and not are_compiled():  # a step by torch takes less time than the kernels
        options = options.model_copy(update={"engine": "torch"})
    architecture = Architecture(name, space.model_arguments(params), shape, classes, code)
    samples = part_of(dataset, min(_SAMPLES, options.batch_size), _SAMPLES)

    def fresh_run() -> TrainingRun:
        return TrainingRun(
            architecture,
            samples,
            options,
            seed=0,
            beta=space.objective.beta,
            measures=Measures(space.objective.accuracy, space.objective.measures),
            capture=space.objective.capture,
        )

    with as_a_trial(space), _bounded(name):
        run = fresh_run()
        _check_outputs(name, run.model, samples)
        layers = measured_layers([run.model], shape, space.objective.capture)
        if not layers:
            raise InputError(
                f"{name} has no hidden linear or convolution layer: its states are what aIQ is computed "
                "from. Name others in objective.capture.layers, such as LSTM"
            )
        run.run_epoch()
        if space.objective.confirmed_measures and onnx_available():
            int8_accuracies(run, ["validation"])
        _check_latency(space, run)
        _check_checkpoint(name, run, fresh_run())
        size = model_size(run.model, shape)
    return TriedNetwork(params, size.parameters, size.macs, tuple(sorted(layers)))


class _OutOfTimeError(BaseException):
    """The network takes too long; it passes every ``except Exception`` on its way, the user's included."""


@contextmanager
def _bounded(name: str) -> Iterator[None]:
    """Give a network its time.

    Raises:
        InputError: It takes longer.
    """

    def give_up() -> None:
        raise _OutOfTimeError

    try:
        with calling_every(_SECONDS, give_up):
            yield
    except _OutOfTimeError:
        raise InputError(
            f"{name} took longer than {_SECONDS:g} s for one training step of {_SAMPLES} samples"
        ) from None


def _check_latency(space: SearchSpace, run: TrainingRun) -> None:
    """Check that the time of a network can be taken, where it is asked for.

    Raises:
        SpaceError: ONNX cannot express it.
    """
    if "latency_ms" not in space.objective.costs or not onnx_available():
        return
    try:
        costs(run, ["latency_ms"], CostMeter())
    except InputError as error:
        raise cannot_be_measured(space, "latency_ms", error) from error.__cause__


def _check_sampler(space: SearchSpace) -> None:
    """Check that the sampler proposes a configuration after some trials.

    Raises:
        SpaceError: An option has a value that Optuna only finds out to be wrong now.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = space.search
    sampler = create_sampler(options.sampler, options.seed, conditional=space.conditional)
    directions: list[Any] = [direction for _, direction in space.objective.directions]
    study = optuna.create_study(sampler=sampler, directions=directions)
    for number in range(_SAMPLER_TRIALS):
        try:
            trial = study.ask()
            space.suggest(trial)
            study.tell(trial, [float(number)] * len(directions))
        except SpaceError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            message = f"with these options it proposes no trial {number}: {reason}"
            raise space.error(("search", "sampler"), message) from error


def _check_measures(space: SearchSpace, dataset: Dataset) -> None:
    """Check that what is measured beside accuracy means something for these classes.

    Raises:
        SpaceError: It does not.
    """
    classes, counts = len(dataset.classes), dataset.class_counts
    for name in space.objective.measures:
        if name == "auroc" and classes != 2:
            raise space.error(("objective",), f"auroc is for two classes, but {dataset.name} has {classes:,}")
        if name == "auroc" and not all(map(all, (counts["validation"], counts["test"]))):
            raise space.error(
                ("objective",), "auroc needs samples of both classes in the validation and the test split"
            )
        if name == "top_5" and classes <= 5:
            raise space.error(
                ("objective",), f"top_5 is always 1 for {classes} classes; it is for more than five"
            )


def _check_augmentation(space: SearchSpace, params: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Check that the samples can be changed as a configuration has it.

    Raises:
        SpaceError: They cannot.
    """
    try:
        Augmentation(space.training_options(params).augment, shape)
    except InputError as error:
        name, _, message = str(error).partition(" ")  # training.augment.shift changes ...
        key = ("parameters", name) if name in params else tuple(name.split("."))
        raise space.error(key, message) from None


def part_of(dataset: Dataset, train: int, validation: int) -> Dataset:
    """A data set of the first samples of another, at most so many."""

    def first(split: Split, number: int) -> Split:
        return Split(split.inputs[:number], split.labels[:number])

    return replace(
        dataset, train=first(dataset.train, train), validation=first(dataset.validation, validation)
    )


@contextmanager
def as_a_trial(space: SearchSpace) -> Iterator[None]:
    """Have the threads of a trial, and leave the random state of this process alone."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(space.resources.cpu)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _check_outputs(name: str, model: nn.Module, dataset: Dataset) -> None:
    """Check that a network gives one finite logit a class for real samples.

    Raises:
        InputError: It gives something else.
    """
    import torch

    split = TensorSplit.of(dataset.validation, dataset.normalization, torch.device("cpu"))
    with torch.inference_mode(), evaluation_mode(model):
        outputs = model(split.normalised(split.inputs))
    classes = len(dataset.classes)
    expected = f"expected the logits as one float tensor of shape (N, {classes}), one for each class"
    if not isinstance(outputs, torch.Tensor):
        raise InputError(f"{name} returns {type(outputs).__name__} from its forward pass: {expected}")
    if tuple(outputs.shape) != (len(split), classes):
        raise InputError(f"{name} returns shape {tuple(outputs.shape)} for {len(split)} samples: {expected}")
    if not outputs.is_floating_point():
        raise InputError(f"{name} returns {str(outputs.dtype).removeprefix('torch.')}: {expected}")
    if not torch.isfinite(outputs).all():
        raise InputError(f"{name} returns NaN or infinity with fresh weights, so it cannot be trained")


def _check_checkpoint(name: str, run: TrainingRun, other: TrainingRun) -> None:
    """Check that a run can be put aside and continued.

    Args:
        name: The network's.
        run: A run of one epoch.
        other: A run of the same network that has not begun.

    Raises:
        InputError: What is read back is not what was written.
    """
    import torch

    with tempfile.TemporaryDirectory(prefix="aiq-") as folder:
        file = Path(folder) / "checkpoint.safetensors"
        save_checkpoint(run, file)
        load_checkpoint(other, file)
    written, read = run.model.state_dict(), other.model.state_dict()
    for key, tensor in written.items():
        if not torch.equal(tensor, read[key]):
            raise InputError(f"{name}: {key} of a checkpoint is not read back as it was written")
