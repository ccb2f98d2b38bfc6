"""Exact counting of the states of one layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from aiq_search.errors import InputError
from aiq_search.statespace.counts import StateCounts
from aiq_search.statespace.kernels import Kernels, load_kernels
from aiq_search.statespace.packing import as_planes, pack_states, packable, words_for
from aiq_search.statespace.runs import Block, Run, group_states, merge_runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["Backend", "StateCounter"]

Backend = Literal["torch", "compiled"]

# A histogram over all states takes 8 * 2^neurons bytes: 8 MiB at most.
_HISTOGRAM_NEURONS = 20
# Bytes of states that wait, unsorted, for the next sorting.
_PENDING_BYTES = 6 << 20
_FORMAT = 1


@dataclass
class _Pending:
    """States that wait to be sorted into a run."""

    parts: list[torch.Tensor] = field(default_factory=list)
    length: int = 0


class StateCounter:
    """Accumulator of the states of one layer: update, merge, reset, compute.

    Counts are exact and do not depend on batching, order, device or backend. Up to 20 neurons they are a
    histogram; above, distinct states are kept in sorted runs, and memory grows with them.

    Args:
        neurons: Number of neurons of the layer.
        order: Order of the entropy in the result; 1 is the paper's.
        backend: ``"torch"``, or ``"compiled"`` for the numba kernels on CPU tensors; the counts are the same.
        budget: Bytes that the counts of this layer may take; by default there is no limit.
        over_budget: What happens beyond: ``"error"``; or ``"sample"``, which drops half of what was
            observed at random, and of what is to come, as often as needed, and marks the result.
        seed: Seed of that sample.

    Raises:
        InputError: An argument is out of its range.

    >>> counter = StateCounter(neurons=2)
    >>> counter.update(torch.tensor([[1.0, -1.0], [1.0, -2.0], [0.0, 3.0], [2.0, 1.0]]))
    >>> counter.compute().entropy
    1.5
    """

    def __init__(
        self,
        neurons: int,
        *,
        order: float = 1.0,
        backend: Backend = "torch",
        budget: int | None = None,
        over_budget: Literal["error", "sample"] = "error",
        seed: int = 0,
    ) -> None:
        if neurons < 1:
            raise InputError(f"A layer must have at least one neuron, but was given {neurons}.")
        if not order >= 0:
            raise InputError(
                f"The order of the entropy must be 0 or more (infinity included), but is {order}."
            )
        if backend not in ("torch", "compiled"):
            raise InputError(f"The backend must be 'torch' or 'compiled', but is {backend!r}.")
        if over_budget not in ("error", "sample"):
            raise InputError(f"over_budget must be 'error' or 'sample', but is {over_budget!r}.")
        if budget is not None and budget < 1 << 16:
            raise InputError(f"The byte budget of a layer must be at least {1 << 16}, but is {budget}.")
        self.neurons = neurons
        self.order = order
        self.budget = budget
        self.over_budget = over_budget
        self.seed = seed
        self._kernels: Kernels | None = load_kernels() if backend == "compiled" else None
        self._words = words_for(neurons)
        row = 8 * self._words
        self._pending_limit = max(
            1, (_PENDING_BYTES if budget is None else min(_PENDING_BYTES, budget // 4)) // row
        )
        self._dense = neurons <= _HISTOGRAM_NEURONS and (budget is None or 8 << neurons <= budget)
        self.reset()

    def reset(self) -> None:
        """Forget everything counted."""
        # One histogram a device, so that a batch is counted where it is.
        self._histograms: dict[torch.device, torch.Tensor] = {}
        self._pending = _Pending()
        self._runs: list[Run] = []
        self._halvings = 0
        self._random = np.random.default_rng(self.seed)

    @property
    def nbytes(self) -> int:
        """Memory that the counts take now."""
        histograms = sum(8 * histogram.numel() for histogram in self._histograms.values())
        return histograms + sum(run.nbytes for run in self._runs) + 8 * self._words * self._pending.length

    def update(self, activations: torch.Tensor, axis: int = -1) -> None:
        """Count the states of a batch.

        Args:
            activations: Any shape and real type, on any device; the neurons on one axis, every other axis
                counts observations. It may be changed afterwards: nothing of it is kept.
            axis: The neurons' axis.

        Raises:
            InputError: The number of neurons differs, the values cannot be compared with 0, or the budget
                is exceeded.
        """
        if not -activations.ndim <= axis < activations.ndim:
            raise InputError(
                f"Expected the neurons on axis {axis}, but the batch has {activations.ndim} axes."
            )
        if activations.shape[axis] != self.neurons:
            raise InputError(
                f"Expected {self.neurons} neurons on axis {axis}, but the batch has "
                f"{activations.shape[axis]} (shape {tuple(activations.shape)})."
            )
        if not packable(activations):
            raise InputError(
                f"Expected a dense tensor of real numbers, but got {activations.dtype}, {activations.layout} "
                f"on {activations.device}."
            )
        if activations.numel() == 0:
            return
        planes = as_planes(activations.detach(), axis)
        if self._kernels is None or not self._kernels.packs(planes):
            self._add(pack_states(planes))
        elif self._dense and not self._halvings:
            self._kernels.count(planes, self._histogram(planes.device).numpy())
        else:
            self._add(self._kernels.pack(planes))

    def _add(self, states: torch.Tensor) -> None:
        """Count packed states, int64 of shape ``(observations, words)``."""
        if self._dense:
            self._count_dense(self._thin(states))
            return
        for part in torch.split(states, self._pending_limit):
            kept = self._thin(part)
            self._pending.parts.append(kept)
            self._pending.length += len(kept)
            if self._pending.length >= self._pending_limit:
                self._flush()

    def _histogram(self, device: torch.device) -> torch.Tensor:
        if device not in self._histograms:
            self._histograms[device] = torch.zeros(1 << self.neurons, dtype=torch.int64, device=device)
        return self._histograms[device]

    def _count_dense(self, states: torch.Tensor) -> None:
        histogram = self._histogram(states.device)
        indices = states.reshape(-1)
        if states.device.type == "cpu" and len(histogram) <= len(indices):
            counted = histogram.numpy()
            counted += np.bincount(indices.numpy(), minlength=len(counted))
        else:
            one = torch.ones((), dtype=torch.int64, device=states.device)
            histogram.scatter_add_(0, indices, one.expand(len(indices)))

    def _flush(self) -> None:
        """Sort what is pending into a run, and merge runs that have grown alike."""
        if self._pending.length:
            pending, self._pending = self._pending.parts, _Pending()
            # From here on one copy alone is alive: sorting takes several times its memory.
            states = torch.cat([part.cpu() for part in pending]).numpy().view(np.uint64)
            pending.clear()
            self._push(group_states(states))

    def _push(self, run: Run) -> None:
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            right = self._runs.pop()
            left = self._runs.pop()
            self._runs.append(merge_runs(left, right))
        if self.budget is not None and self.nbytes + 8 * self._words * self._pending_limit > self.budget:
            self._merge_all()
            self._keep_to_budget(self.budget)

    def _merge_all(self) -> None:
        while len(self._runs) > 1:
            right = self._runs.pop()
            self._runs[-1] = merge_runs(self._runs[-1], right)

    def _keep_to_budget(self, budget: int) -> None:
        """Make the one run fit beside what may wait to be sorted."""
        room = budget - 8 * self._words * self._pending_limit
        while self._runs and self._runs[0].nbytes > room:
            run = self._runs[0]
            if self.over_budget == "error":
                needed = run.nbytes + budget - room
                raise InputError(
                    f"The {len(run):,} distinct states seen up to here take {needed:,} bytes, more than the "
                    f"budget of {budget:,}, and there may be more to come. Give a larger budget, fewer "
                    "observations, or over_budget='sample' for an estimate from a random sample."
                )
            self._halvings += 1
            self._runs[0] = self._thin_run(run, 1)

    def _thin(self, states: torch.Tensor) -> torch.Tensor:
        """The part of new observations that a sample keeps."""
        if not self._halvings:
            return states
        kept = self._random.random(len(states)) < 0.5**self._halvings
        return states[torch.from_numpy(kept).to(states.device)]

    def _thin_run(self, run: Run, halvings: int) -> Run:
        """Keep each observation of a run with probability ``2^-halvings``."""
        if not halvings:
            return run
        thinned = Run()
        for block in run.blocks:
            counts = self._random.binomial(block.counts.astype(np.int64), 0.5**halvings)
            left = counts > 0
            thinned.append(Block.of(block.keys[left], block.states[left], counts[left]))
        return thinned

    def _as_run(self) -> Run:
        """Everything counted, as one run."""
        if self._dense:
            total = np.zeros(1 << self.neurons, dtype=np.int64)
            for histogram in self._histograms.values():
                total += histogram.cpu().numpy()
            keys = np.flatnonzero(total)
            return Run([Block.of(keys, keys.view(np.uint64).reshape(-1, 1), total[keys])])
        self._flush()
        self._merge_all()
        return self._runs[0] if self._runs else Run()

    def merge(self, other: StateCounter) -> None:
        """Add all that another counter of the same layer counted; the other stays as it is.

        Where one of them is a sample, the result is a sample at the lower rate.

        Raises:
            InputError: The numbers of neurons differ, or the budget is exceeded.
        """
        if other.neurons != self.neurons:
            raise InputError(
                f"Only counters of one layer can be merged, but this has {self.neurons} neurons and the "
                f"other {other.neurons}."
            )
        halvings = max(self._halvings, other._halvings)
        added = self._thin_run(other._as_run(), halvings - other._halvings)
        if halvings > self._halvings:
            thinned = self._thin_run(self._as_run(), halvings - self._halvings)
            self._histograms, self._runs, self._halvings = {}, [], halvings
            self._add_run(thinned)
        self._add_run(added)

    def _add_run(self, run: Run) -> None:
        if self._dense:
            self._add_to_histogram(run)
        elif len(run):
            self._push(Run(run.blocks))  # merging uses up a run, and this one may be another counter's

    def _add_to_histogram(self, run: Run) -> None:
        histogram = self._histogram(torch.device("cpu")).numpy()
        for block in run.blocks:
            histogram[block.keys] += block.counts.astype(np.int64)

    def compute(self) -> StateCounts:
        """The states counted so far; counting may go on afterwards.

        Raises:
            InputError: Nothing was counted.
        """
        run = self._as_run()
        if not len(run):
            raise InputError("No observation was counted. Run the model on at least one sample first.")
        return StateCounts(self.neurons, tuple(run.blocks), self.order, 0.5**self._halvings)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything counted, as plain arrays; `from_arrays` is the inverse."""
        blocks = self._as_run().blocks
        none = np.zeros((0, self._words), dtype=np.uint64)
        states = np.concatenate([none, *(block.states for block in blocks)])
        counts = np.concatenate([none[:, 0], *(block.counts for block in blocks)]).astype(np.int64)
        return {
            "format": np.array(_FORMAT),
            "neurons": np.array(self.neurons),
            "halvings": np.array(self._halvings),
            "states": states,
            "counts": counts,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], **options: Any) -> StateCounter:  # noqa: ANN401
        """A counter that holds what `to_arrays` gave.

        Args:
            arrays: What `to_arrays` gave.
            options: As of the class, but ``neurons``.

        Raises:
            InputError: The arrays are not those of a counter.
        """
        missing = {"format", "neurons", "halvings", "states", "counts"} - set(arrays)
        if missing or int(arrays["format"]) != _FORMAT:
            raise InputError(
                f"These are not the arrays of a counter, format {_FORMAT}: missing {sorted(missing)}."
            )
        counter = cls(int(arrays["neurons"]), **options)
        states, counts = arrays["states"], arrays["counts"]
        fits = states.dtype == np.uint64 and states.shape == (len(counts), counter._words)
        if not fits or counts.dtype != np.int64 or counts.ndim != 1 or (counts < 1).any():
            raise InputError("The arrays of this counter are damaged: states and counts do not fit together.")
        spare = 64 * counter._words - counter.neurons
        if spare and (states[:, -1] >> np.uint64(64 - spare)).any():
            raise InputError(
                "The arrays of this counter are damaged: a state has more neurons than the layer."
            )
        counter._halvings = int(arrays["halvings"])
        counter._add_run(group_states(states, counts))
        return counter

    def save(self, path: str | Path) -> None:
        """Write everything counted to an ``.npz`` file."""
        with Path(path).open("wb") as file:
            np.savez(file, allow_pickle=False, **self.to_arrays())

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> StateCounter:  # noqa: ANN401
        """Read what `save` wrote; no code of the file can run.

        Raises:
            InputError: It is not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls.from_arrays(dict(arrays), **options)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a file of saved counts: {error}") from error
