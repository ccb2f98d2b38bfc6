"""What a search would take: some networks are timed for a few batches, and the search is simulated."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.app.forecast import Costs, Shape, fit, simulate, time_some
from aiq_search.app.options import RunOptions
from aiq_search.app.prepare import earlier_studies, load_data, with_imported
from aiq_search.errors import InputError
from aiq_search.search.check import check_space, corner, unchecked_code
from aiq_search.search.preflight import as_a_trial
from aiq_search.search.reference import most_trainings
from aiq_search.space import SearchSpace, load_space
from aiq_search.space.points import drawn, space_size
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

# How many networks are timed, of how many that are drawn, and for how long in all.
_TIMED = 8
_DRAWN = 24
_SECONDS = 6.0

# Searches that are simulated, with as many seeds, and for how long at most.
_SIMULATIONS = 3
_SIMULATION_SECONDS = 5.0

# Ray and the workers at the start; the champion and its files at the end.
_START_AND_END = 15.0

# By how much the timings may be off in either direction.
_MARGIN = 1.25


@dataclass(frozen=True)
class Probe:
    """One network.

    Attributes:
        params: Its configuration.
        parameters: Trainable numbers.
        macs: Multiply-accumulates of a forward pass of one sample.
        epoch_seconds: Training and measuring, once; from the networks that were timed.
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
        reference: Trainings of the reference phase at most, behind the champion.
        concurrency: Trials at a time, on this machine.
        narrowest: The network of the lowest corner.
        widest: The network of the highest corner.
        expected_hours: From the command to its end.
        hours: The range in which that lies: what differs between seeds, and how exact the timings are.
        disk_bytes: Of the study and of a local MLflow, if all trials were the narrowest or the widest.
    """

    name: str
    size: int | None
    size_exact: bool
    trials: int
    reference: int
    concurrency: int
    narrowest: Probe
    widest: Probe
    expected_hours: float
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
    """Time a few batches of some networks, and simulate the search.

    Args:
        source: A search-space file.
        options: What the search would be run with.
        agree: Asked before code is imported that the file names as ``package.module:function``, unless
            ``options.allow_code`` allows it. By default nobody agrees.

    Returns:
        Sizes and estimates. Nothing is written.

    Raises:
        InputError: The space, the data or an earlier study is wrong, or nobody agreed to code of the file.
    """
    options = options or RunOptions()
    options = with_imported(load_space(source, options.edits), options)[0]
    space, code = load_space(source, options.edits), options.code
    machine = options.machine
    check_space(space, machine=machine)
    earlier_studies(space, options)
    size = space_size(space)
    space = _ended_by_its_grid(space, size.number)
    names = unchecked_code(space, CodePolicy(packages=code.packages))
    if names and not agree(names):
        package = names[0].partition(":")[0].partition(".")[0]
        raise InputError(
            f"{source}: a dry run imports and runs code that the file names ({', '.join(names)}), which was "
            f"not confirmed; allow it with --allow-code {package}."
        )
    check_space(space, code, machine)
    dataset = load_data(space, options.data_dir, code, machine)
    networks = _Networks(space, dataset, code)
    with as_a_trial(space):
        costs = fit(time_some(networks.spread(), dataset, _SECONDS, space.objective.capture))
        narrowest, widest = (networks.probe(corner(space, widest=widest), costs) for widest in (False, True))
        slots = max(1, len(os.sched_getaffinity(0)) // space.resources.cpu)
        concurrency = min(slots, space.search.concurrency or slots)
        seconds = list(_simulations(space, dataset, networks, costs, concurrency))
    total, reference = space.search.trials + space.confirm.trainings, most_trainings(space)
    disk = [_disk_bytes(space, total + reference, concurrency, probe.bytes) for probe in (narrowest, widest)]
    return DryRun(
        name=space.name,
        size=int(size.number) if size.number < 2**63 else None,
        size_exact=size.exact,
        trials=total,
        reference=reference,
        concurrency=concurrency,
        narrowest=narrowest,
        widest=widest,
        expected_hours=(statistics.median(seconds) + _START_AND_END) / 3600,
        hours=(
            (min(seconds) / _MARGIN + _START_AND_END) / 3600,
            (max(seconds) * _MARGIN + _START_AND_END) / 3600,
        ),
        disk_bytes=(min(disk), max(disk)),
    )


def _ended_by_its_grid(space: SearchSpace, cells: float) -> SearchSpace:
    """The space with no more trials than its grid has: each cell and queued point on each seed."""
    if space.search.sampler.name != "grid" or cells == math.inf:
        return space
    most = (int(cells) + len(space.enqueue)) * space.search.replicates
    search = space.search.model_copy(update={"trials": min(space.search.trials, most)})
    return space.model_copy(update={"search": search})


def _disk_bytes(space: SearchSpace, trials: int, concurrency: int, weights: int) -> int:
    """What a study of networks of a size takes, in AIQ_HOME and in a local MLflow."""
    records = trials * (_TRIAL_BYTES + _EPOCH_BYTES * space.training.epochs)
    kept = 2 * max(5, space.confirm.finalists or 0)
    resumable = 3 * concurrency  # a checkpoint is three times the weights
    return _STUDY_BYTES + records + (kept + resumable + _CHAMPION_COPIES) * weights


def _simulations(
    space: SearchSpace, dataset: Dataset, networks: _Networks, costs: Costs, slots: int
) -> Iterator[float]:
    """How many seconds searches with other seeds would train; at least one."""
    end = time.perf_counter() + _SIMULATION_SECONDS
    for seed in range(space.search.seed, space.search.seed + _SIMULATIONS):
        other = space.model_copy(update={"search": space.search.model_copy(update={"seed": seed})})
        yield simulate(other, dataset, networks.shape_of, costs, slots)
        if time.perf_counter() > end:
            return


class _Networks:
    """The networks of a space."""

    def __init__(self, space: SearchSpace, dataset: Dataset, code: CodePolicy) -> None:
        self._space = space
        self._dataset = dataset
        self._code = code
        self._shapes: dict[str, Shape] = {}

    def _architecture(self, arguments: Mapping[str, Any]) -> Architecture:
        from aiq_search.models import Architecture

        shape, classes = self._dataset.input_shape, len(self._dataset.classes)
        return Architecture(self._space.model.name, dict(arguments), shape, classes, self._code)

    def shape_of(self, arguments: Mapping[str, Any]) -> Shape:
        """The shape of a network, by the arguments of its function."""
        key = json.dumps(dict(arguments), sort_keys=True)
        if key not in self._shapes:
            self._shapes[key] = Shape.of(self._architecture(arguments))
        return self._shapes[key]

    def spread(self) -> list[tuple[Architecture, Shape, TrainingOptions]]:
        """Some networks from narrow to wide, and how they are trained."""
        points = [corner(self._space, widest=False), *islice(drawn(self._space), _DRAWN)]
        points.sort(key=lambda point: self.shape_of(self._space.model_arguments(point)).macs)
        chosen = points[:: max(1, len(points) // _TIMED)]
        return [
            (
                self._architecture(arguments := self._space.model_arguments(point)),
                self.shape_of(arguments),
                self._space.training_options(point),
            )
            for point in chosen
        ]

    def probe(self, params: Mapping[str, Any], costs: Costs) -> Probe:
        """What a network takes."""
        shape = self.shape_of(self._space.model_arguments(params))
        seconds = costs.seconds(shape, len(self._dataset.train), len(self._dataset.validation))
        return Probe(params, shape.parameters, shape.macs, seconds, shape.bytes)
