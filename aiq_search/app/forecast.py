"""How long a search will take: what its networks cost, timed, and the search itself, simulated.

The driver, sampler, pruner and race are the real ones. Only training is replaced: how long it takes follows
from the timed networks, and what it shows from a made-up landscape of the usual shape, in which wide layers
are inefficient and narrow networks inaccurate.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.search.driver import StudyDriver
from aiq_search.space.points import grid
from aiq_search.study import Study, TrialKey
from aiq_search.training.measures import INT8_ACCURACY
from aiq_search.worker import Assignment, Report, Rung
from aiq_search.worker.messages import RUNG_SAMPLES

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset
    from aiq_search.models import Architecture
    from aiq_search.space import SearchSpace
    from aiq_search.training import TrainingOptions
    from aiq_search.training.capture import CaptureOptions

__all__ = ["Costs", "Shape", "Timing", "fit", "simulate", "time_some"]

# A network is timed for about so long, and not at all if a single batch of it would take longer.
_ENOUGH_SECONDS = 0.3
_LONGEST_BATCH = 1.5

# Samples on which measuring is timed.
_MEASURED = 500

# What the driver and Ray take for each trial and for each report, while its slot waits.
_TRIAL_SECONDS = 0.3
_REPORT_SECONDS = 0.02
# What taking the latency of a small network takes, see ``lowering.costs``.
_LATENCY_SECONDS = 0.2

# A longer search is simulated so far, and the rest taken to be alike.
_MOST_TRIALS = 60

# So many cells of a grid are built to see how much they differ.
_MOST_CELLS = 256


@dataclass(frozen=True)
class Shape:
    """What a network's costs depend on.

    Attributes:
        macs: Multiply-accumulates of a forward pass of one sample.
        outputs: Numbers that its layers give for one sample.
        widths: Neurons of each hidden layer, by name.
        parameters: Trainable numbers.
        bytes: Of its weights on disk.
    """

    macs: int
    outputs: int
    widths: Mapping[str, int]
    parameters: int
    bytes: int

    @classmethod
    def of(cls, architecture: Architecture) -> Shape:
        """The shape of a network, which is built for it."""
        import torch

        from aiq_search.models import layer_outputs

        with torch.random.fork_rng(devices=[]):
            network = architecture.build()
        outputs = layer_outputs(network, architecture.input_shape)
        weights = {name: network.get_submodule(name).get_parameter("weight").numel() for name in outputs}
        *hidden, _ = outputs
        return cls(
            macs=sum(outputs[name][1] * weights[name] for name in outputs),
            outputs=sum(neurons * places for neurons, places in outputs.values()),
            widths={name: outputs[name][0] for name in hidden},
            parameters=sum(tensor.numel() for tensor in network.parameters() if tensor.requires_grad),
            bytes=sum(tensor.nbytes for tensor in network.state_dict().values()),
        )


@dataclass(frozen=True)
class Timing:
    """Seconds a sample takes in one network: to learn from it, and to measure on it."""

    shape: Shape
    learning: float
    measuring: float


@dataclass(frozen=True)
class Costs:
    """Seconds a sample takes in any network of a space: a constant, and so much a MAC and an output.

    Attributes:
        learning: Those three, of a sample that is learnt from.
        measuring: Of one that is measured on.
    """

    learning: Sequence[float]
    measuring: Sequence[float]

    def seconds(self, shape: Shape, learnt: float, measured: float) -> float:
        """How long it takes to learn from some samples and to measure on others."""
        each = zip(self.learning, self.measuring, _terms(shape), strict=True)
        return sum((learnt * learning + measured * measuring) * term for learning, measuring, term in each)


def _terms(shape: Shape) -> tuple[float, float, float]:
    return 1.0, float(shape.macs), float(shape.outputs)


def _timed(
    architecture: Architecture,
    shape: Shape,
    dataset: Dataset,
    options: TrainingOptions,
    capture: CaptureOptions,
) -> Timing:
    """Time some batches of a network; they leave its weights as they are."""
    import torch

    from aiq_search.training import TrainingRun

    if options.cuda_graphs and not torch.cuda.is_available():  # trials have a GPU, but on other machines
        options = options.model_copy(update={"cuda_graphs": False})
    run = TrainingRun(architecture, dataset, options, seed=0, capture=capture)
    batches = torch.split(torch.arange(len(run.train_split), device=run.device), options.batch_size)
    on_one_core = run.device.type == "cpu" and torch.get_num_threads() == 1
    # What else the machine does meanwhile says nothing about the search.
    clock = time.thread_time if on_one_core else time.perf_counter

    def seconds(call: Callable[[], object]) -> float:
        begun = clock()
        call()
        return clock() - begun

    first = seconds(lambda: run.engine.train(run.train_split, batches[:1], [0.0]))
    some = batches[: max(1, min(len(batches), math.ceil(_ENOUGH_SECONDS / max(first, 1e-4))))]
    learning = seconds(lambda: run.engine.train(run.train_split, some, [0.0] * len(some))) / sum(
        map(len, some)
    )
    samples = run.part_of_validation(_MEASURED)
    measuring = min(seconds(lambda: run.engine.evaluate(samples, 1.0)) for _ in range(2)) / len(samples)
    return Timing(shape, learning, measuring)


def time_some(
    networks: Sequence[tuple[Architecture, Shape, TrainingOptions]],
    dataset: Dataset,
    seconds: float,
    capture: CaptureOptions,
) -> list[Timing]:
    """Time networks, the smallest first, until the seconds are used up or a batch would take too long."""
    timings: list[Timing] = []
    end = time.perf_counter() + seconds
    for architecture, shape, options in sorted(networks, key=lambda each: each[1].macs):
        if timings:
            ratio = max(1.0, shape.macs / max(1, timings[-1].shape.macs))
            if (
                time.perf_counter() > end
                or timings[-1].learning * ratio * options.batch_size > _LONGEST_BATCH
            ):
                break
        timings.append(_timed(architecture, shape, dataset, options, capture))
    return timings


def fit(timings: Sequence[Timing]) -> Costs:
    """The costs that fit the timings best, by relative errors; none is negative."""
    terms = [_terms(timing.shape) for timing in timings]
    return Costs(
        _fitted(terms, [t.learning for t in timings]), _fitted(terms, [t.measuring for t in timings])
    )


def _fitted(terms: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Weights of the terms, none negative: of all subsets of terms, the one that fits best."""
    import numpy as np

    columns = np.array(terms)
    scale = columns.max(axis=0)
    relative = columns / scale / np.array(seconds)[:, None]
    best, least = np.zeros(len(scale)), math.inf
    for kept in itertools.product((False, True), repeat=len(scale)):
        weights = np.zeros(len(scale))
        if any(kept):
            weights[list(kept)] = np.linalg.lstsq(relative[:, kept], np.ones(len(seconds)), rcond=None)[0]
        error = float(np.square(relative @ weights - 1).sum())
        if weights.min() >= 0 and error < least:
            best, least = weights, error
    return [float(weight) for weight in best / scale]


# ---- the simulated search --------------------------------------------------------------------------


def simulate(
    space: SearchSpace,
    dataset: Dataset,
    shape_of: Callable[[Mapping[str, Any]], Shape],
    costs: Costs,
    slots: int,
) -> float:
    """How many seconds a search would take from its first trial to its last.

    Args:
        space: The space.
        dataset: Its data.
        shape_of: The shape of a network, by the arguments of its function.
        costs: What a sample takes.
        slots: Trials at once.
    """
    trials = min(space.search.trials, _MOST_TRIALS)
    search = space.search.model_copy(update={"trials": trials})
    shortened = space.model_copy(update={"search": search})
    memory = Path("/dev/shm")  # noqa: S108 - the journal is flushed at each line
    with tempfile.TemporaryDirectory(prefix="aiq-", dir=memory if memory.is_dir() else None) as home:
        study = Study.create(Path(home), shortened, dataset.description(), "forecast")
        clock = _Clock()
        driver = StudyDriver(study, clock=clock)
        with study.held():
            driver.begin()
            explored = _run(driver, clock, slots, lambda a: _Training(a, dataset, shape_of, costs))
            driver.end()

    def epoch(arguments: Mapping[str, Any]) -> float:
        measured = [dataset.validation, *(dataset.split(name) for name in space.dataset.watch)]
        return costs.seconds(shape_of(arguments), len(dataset.train), sum(map(len, measured)))

    return explored * _times_as_long(space, trials, epoch) + clock.now - explored


def _times_as_long(space: SearchSpace, simulated: int, epoch: Callable[[Mapping[str, Any]], float]) -> float:
    """By how much all trials take longer than the first ones.

    A grid begins with its narrowest networks, so its cells are weighed by how long their epochs take.
    """
    trials, seeds = space.search.trials, space.search.replicates
    if space.search.sampler.name != "grid" or trials == simulated:
        return trials / simulated
    cells = list(islice(grid(space), math.ceil(trials / seeds)))
    some = random.Random(0).sample(cells, min(len(cells), _MOST_CELLS))  # noqa: S311

    def weight(cell: Mapping[str, Any]) -> float:
        return epoch(space.model_arguments(cell))

    first = statistics.fmean(map(weight, cells[: math.ceil(simulated / seeds)]))
    return trials / simulated * statistics.fmean(map(weight, some)) / first


class _Clock:
    """Simulated seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _run(driver: StudyDriver, clock: _Clock, slots: int, begin: Callable[[Assignment], _Training]) -> float:
    """Run a search; returns when exploring ended."""
    explored = 0.0
    order = itertools.count()
    queue: list[tuple[float, int, TrialKey, _Training]] = []

    def go_on(key: TrialKey, training: _Training, wait: float = _REPORT_SECONDS) -> None:
        heapq.heappush(queue, (clock.now + wait + training.advance(), next(order), key, training))

    while True:
        while len(queue) < slots and (assignment := driver.next_assignment()) is not None:
            timed = _LATENCY_SECONDS if "latency_ms" in assignment.costs else 0
            go_on(TrialKey.parse(assignment.key), begin(assignment), _TRIAL_SECONDS + timed)
        if not queue:
            return explored
        clock.now, _, key, training = heapq.heappop(queue)
        if driver.report(key, training.report()):
            go_on(key, training)
        if key.phase == "explore":
            explored = clock.now


class _Training:
    """A trial's training, simulated."""

    def __init__(
        self,
        assignment: Assignment,
        dataset: Dataset,
        shape_of: Callable[[Mapping[str, Any]], Shape],
        costs: Costs,
    ) -> None:
        self._assignment = assignment
        self._shape = shape_of(assignment.architecture["arguments"])
        self._costs = costs
        self._dataset = dataset
        self._stops = [*assignment.rungs, *range(1, assignment.training["epochs"] + 1)]
        self._at = 0.0

    def advance(self) -> float:
        """Train until the next report; returns how many seconds that takes."""
        before, self._at = self._at, self._stops.pop(0)
        whole = self._at >= 1
        learnt = (self._at - before) * len(self._dataset.train)
        validation = len(self._dataset.validation)
        measured = validation if whole else min(validation, RUNG_SAMPLES)
        if whole:
            measured += sum(len(self._dataset.split(name)) for name in self._assignment.watch)
        if self._assignment.test and not self._stops:
            measured += len(self._dataset.test)
        return self._costs.seconds(self._shape, learnt, measured)

    def report(self) -> Report:
        """What is reported there."""
        done, metrics = not self._stops, self._metrics()
        size = {
            "parameters": self._shape.parameters,
            "parameters_weights": self._shape.parameters,
            "macs": self._shape.macs,
            **self._made_up_costs(),
        }
        if self._at < 1:
            samples = round(self._at * len(self._dataset.train))
            return Report(rung=Rung(self._at, samples, metrics), size=size)
        tested = ("aiq", "accuracy", "efficiency") if done and self._assignment.test else ()
        final = {f"test/{name}": metrics[name] for name in tested}
        if done and self._assignment.int8:
            final |= dict.fromkeys((INT8_ACCURACY, f"test/{INT8_ACCURACY}"), metrics["accuracy"])
        return Report(
            epochs=((int(self._at), metrics),),
            chosen=int(self._at),
            size=size,
            done=done,
            final=final,
        )

    def _made_up_costs(self) -> dict[str, float]:
        all_of_them = {"activation_bytes": 4 * self._shape.outputs, "latency_ms": 1e-7 * self._shape.macs}
        return {name: all_of_them[name] for name in self._assignment.costs}

    def _metrics(self) -> dict[str, float]:
        """Numbers like those of LeNets on MNIST: see docs/quality.md for the real ones."""
        draw = random.Random(self._assignment.seed)  # noqa: S311
        widths = list(self._shape.widths.values()) or [1]
        layers = {f"efficiency/{name}": width**-0.3 for name, width in self._shape.widths.items()}
        wrong = min(0.9, 1.2 * statistics.geometric_mean(widths) ** -2.2)
        missed = 0.1 * abs(math.log10(self._assignment.training["learning_rate"] / 0.02))
        accuracy = (1 - wrong) * (1 - missed) * (1 - 0.05 / math.sqrt(self._at)) + draw.gauss(0, 0.005)
        accuracy = min(1.0, max(0.01, accuracy))
        efficiency = statistics.geometric_mean(layers.values()) if layers else 1.0
        efficiency *= math.exp(draw.gauss(0, 0.03))
        beta = self._assignment.beta
        return {
            "aiq": (accuracy**beta * efficiency) ** (1 / (beta + 1)),
            "accuracy": accuracy,
            "efficiency": efficiency,
            "loss": 1 - accuracy + 0.01 / self._at,
            "train_loss": 1 - accuracy + 0.01 / self._at,
            **layers,
        }
