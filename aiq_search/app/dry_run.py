"""What a search would take, from some timed batches of the narrowest and the widest network."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.app.options import RunOptions
from aiq_search.app.prepare import load_data
from aiq_search.errors import InputError
from aiq_search.search.check import check_space, corner, unchecked_code
from aiq_search.search.preflight import as_a_trial, part_of
from aiq_search.space import SearchSpace, load_space
from aiq_search.space.points import space_size
from aiq_search.user_code import CodePolicy

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset
    from aiq_search.models import Architecture
    from aiq_search.training import TrainingOptions

__all__ = ["DryRun", "Probe", "dry_run"]

# Disk space besides weights: of a study (MLflow's empty database, and a report here and in MLflow), of a
# trial in journal, outbox and MLflow's database, and of each of its epochs there.
_STUDY_BYTES = 5_500_000
_TRIAL_BYTES = 28_000
_EPOCH_BYTES = 2_300

# Copies of the champion's weights: three formats here and in MLflow, and one in its registered model.
_CHAMPION_COPIES = 7

# The batches of one network are timed for about so long.
_ENOUGH_SECONDS = 1.0


@dataclass(frozen=True)
class Probe:
    """One network, trained on some batches.

    Attributes:
        params: Its configuration.
        parameters: Trainable numbers.
        macs: Multiply-accumulates of a forward pass of one sample.
        epoch_seconds: Training and measuring, once; estimated from a part of the data.
        bytes: Of its weights on disk.
    """

    params: Mapping[str, Any]
    parameters: int
    macs: int
    epoch_seconds: float
    bytes: int


@dataclass(frozen=True)
class DryRun:
    """What a search would take.

    Attributes:
        name: The space's.
        size: Number of configurations; None for infinitely many, or more than 63 bits can count.
        size_exact: Whether that is the number, or an upper bound.
        trials: Exploring and confirming.
        concurrency: Trials at a time, on this machine.
        narrowest: The network of the lowest corner.
        widest: The network of the highest corner.
        hours: From the fastest (every trial as the narrowest) to the slowest (every trial as the
            widest, none stopped early).
        disk_bytes: Likewise, of the study and of a local MLflow.
    """

    name: str
    size: int | None
    size_exact: bool
    trials: int
    concurrency: int
    narrowest: Probe
    widest: Probe
    hours: tuple[float, float]
    disk_bytes: tuple[int, int]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def dry_run(
    source: Path,
    options: RunOptions | None = None,
    agree: Callable[[list[str]], bool] = lambda names: False,
) -> DryRun:
    """Time a few batches of the narrowest and the widest network, and estimate the search from that.

    Args:
        source: A search-space file.
        options: What the search would be run with.
        agree: Asked before code is imported that the file names as ``package.module:function``, unless
            ``options.allow_code`` allows it. By default nobody agrees.

    Returns:
        Sizes and estimates. Nothing is written.

    Raises:
        InputError: The space or the data is wrong, or the file names code and nobody agreed.
    """
    options = options or RunOptions()
    space, code = load_space(source, options.edits), options.code
    machine = options.machine
    check_space(space, machine=machine)
    names = unchecked_code(space, CodePolicy(packages=code.packages))
    if names and not agree(names):
        package = names[0].partition(":")[0].partition(".")[0]
        raise InputError(
            f"{source}: a dry run imports and runs code that the file names ({', '.join(names)}), which was "
            f"not confirmed; allow it with --allow-code {package}."
        )
    check_space(space, code, machine)
    dataset = load_data(space, options.data_dir, code, machine)
    narrowest, widest = (_probe(space, dataset, code, widest=widest) for widest in (False, True))
    total = space.search.trials + space.confirm.trainings
    slots = max(1, len(os.sched_getaffinity(0)) // space.resources.cpu)
    concurrency = min(slots, space.search.concurrency or slots)
    epochs = total * space.training.epochs / concurrency
    hours = [probe.epoch_seconds * epochs / 3600 for probe in (narrowest, widest)]
    disk = [_disk_bytes(space, total, concurrency, probe.bytes) for probe in (narrowest, widest)]
    size = space_size(space)
    return DryRun(
        name=space.name,
        size=int(size.number) if size.number < 2**63 else None,
        size_exact=size.exact,
        trials=total,
        concurrency=concurrency,
        narrowest=narrowest,
        widest=widest,
        hours=(min(hours), max(hours)),
        disk_bytes=(min(disk), max(disk)),
    )


def _disk_bytes(space: SearchSpace, trials: int, concurrency: int, weights: int) -> int:
    """What a study of networks of a size takes, in AIQ_HOME and in a local MLflow."""
    records = trials * (_TRIAL_BYTES + _EPOCH_BYTES * space.training.epochs)
    kept = 2 * max(5, space.confirm.finalists or 0)
    resumable = 3 * concurrency  # a checkpoint is three times the weights
    return _STUDY_BYTES + records + (kept + resumable + _CHAMPION_COPIES) * weights


def _probe(space: SearchSpace, dataset: Dataset, code: CodePolicy, *, widest: bool) -> Probe:
    from aiq_search.models import Architecture, model_size

    params = corner(space, widest=widest)
    shape, classes = dataset.input_shape, len(dataset.classes)
    architecture = Architecture(space.model.name, space.model_arguments(params), shape, classes, code)
    # The time does not depend on the learning rate, and with a small one no network diverges.
    options = space.training_options(params).model_copy(update={"learning_rate": 1e-9})
    with as_a_trial(space):
        model = architecture.build()
        size = model_size(model, shape)
        stored = sum(t.numel() * t.element_size() for t in model.state_dict().values())
        seconds = _epoch_seconds(architecture, dataset, options)
    return Probe(params, size.parameters, size.macs, seconds, stored)


def _epoch_seconds(architecture: Architecture, dataset: Dataset, options: TrainingOptions) -> float:
    """How long an epoch takes, from as many batches of it as are timed in about a second."""
    from aiq_search.training import TrainingRun

    batches, whole = 1, math.ceil(len(dataset.train) / options.batch_size)
    warm = False  # the first batch of all takes longer
    while True:
        fraction = min(1.0, batches / whole)
        part = part_of(
            dataset, math.ceil(fraction * len(dataset.train)), math.ceil(fraction * len(dataset.validation))
        )
        run = TrainingRun(architecture, part, options, seed=0)
        started = time.perf_counter()
        run.run_epoch()
        seconds = time.perf_counter() - started
        if warm and (fraction == 1.0 or seconds >= _ENOUGH_SECONDS):
            return seconds / fraction
        if warm:
            batches *= max(2, min(8, math.ceil(_ENOUGH_SECONDS / max(seconds, 1e-3))))
        warm = True
