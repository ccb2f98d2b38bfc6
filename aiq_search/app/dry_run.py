"""What a search would take, from one timed epoch of the narrowest and the widest network."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiq_search.app.options import RunOptions
from aiq_search.app.prepare import load_data, prepare_space
from aiq_search.search.check import corner
from aiq_search.space import SearchSpace
from aiq_search.space.points import space_size

__all__ = ["DryRun", "Probe", "dry_run"]

# Disk space of a trial besides its weights: journal, outbox and MLflow's database.
_RECORD_BYTES = 60_000


@dataclass(frozen=True)
class Probe:
    """One network, trained for one epoch.

    Attributes:
        params: Its configuration.
        parameters: Trainable numbers.
        macs: Multiply-accumulates of a forward pass of one sample.
        epoch_seconds: Training and measuring, once.
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
        size: Number of configurations; None for infinitely many.
        size_exact: Whether that is the number, or an upper bound.
        trials: Exploring and confirming.
        concurrency: Trials at a time, on this machine.
        narrowest: The network of the lowest corner.
        widest: The network of the highest corner.
        hours: From the fastest (every trial as the narrowest) to the slowest (every trial as the
            widest, none stopped early).
        disk_bytes: Likewise.
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


def dry_run(source: Path, options: RunOptions | None = None) -> DryRun:
    """Train the narrowest and the widest network for one epoch, and estimate the search from that.

    Args:
        source: A search-space file.
        options: What the search would be run with.

    Returns:
        Sizes and estimates. Nothing is written.

    Raises:
        InputError: The space or the data is wrong.
    """
    options = options or RunOptions()
    space = prepare_space(source, options.edits)
    dataset = load_data(space, options.data_dir)
    narrowest, widest = (_probe(space, dataset, widest=widest) for widest in (False, True))
    total = space.search.trials + space.confirm.trainings
    slots = max(1, len(os.sched_getaffinity(0)) // space.resources.cpu)
    concurrency = min(slots, space.search.concurrency or slots)
    epochs = total * space.training.epochs / concurrency
    hours = [probe.epoch_seconds * epochs / 3600 for probe in (narrowest, widest)]
    kept = (
        2 * max(5, space.confirm.finalists or 0) + 3 * concurrency
    )  # a checkpoint is three times the weights
    disk = [total * _RECORD_BYTES + kept * probe.bytes for probe in (narrowest, widest)]
    size = space_size(space)
    return DryRun(
        name=space.name,
        size=None if size.number == math.inf else int(size.number),
        size_exact=size.exact,
        trials=total,
        concurrency=concurrency,
        narrowest=narrowest,
        widest=widest,
        hours=(min(hours), max(hours)),
        disk_bytes=(min(disk), max(disk)),
    )


def _probe(space: SearchSpace, dataset: Any, *, widest: bool) -> Probe:  # noqa: ANN401
    import torch

    from aiq_search.models import Architecture, model_size
    from aiq_search.training import TrainingRun

    threads = torch.get_num_threads()
    torch.set_num_threads(space.resources.cpu)  # as a trial would
    try:
        params = corner(space, widest=widest)
        architecture = Architecture(
            space.model.name, space.model_arguments(params), dataset.input_shape, len(dataset.classes)
        )
        run = TrainingRun(architecture, dataset, space.training_options(params), seed=0)
        size = model_size(run.model, dataset.input_shape)
        begun = time.perf_counter()
        run.run_epoch()
        seconds = time.perf_counter() - begun
        stored = sum(t.numel() * t.element_size() for t in run.model.state_dict().values())
    finally:
        torch.set_num_threads(threads)
    return Probe(params, size.parameters, size.macs, seconds, stored)
