"""Exact counting of the states of one layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from aiq_search.arrays import ArrayFile
from aiq_search.errors import InputError
from aiq_search.statespace.counts import StateCounts
from aiq_search.statespace.kernels import Kernels, load_kernels
from aiq_search.statespace.packing import as_planes, pack_states, packable, words_for
from aiq_search.statespace.runs import group_states
from aiq_search.statespace.stores import Histograms, OverBudget, Sample, SortedRuns

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["Backend", "StateCounter"]

Backend = Literal["torch", "compiled"]

# A histogram over all states takes 8 * 2^neurons bytes: 8 MiB at most.
_HISTOGRAM_NEURONS = 20
_FORMAT = 1
_LARGEST_NUMBER = 2**31


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
        over_budget: OverBudget = "error",
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
        self._dense = neurons <= _HISTOGRAM_NEURONS and (budget is None or 8 << neurons <= budget)
        self.reset()

    def reset(self) -> None:
        """Forget everything counted."""
        self._sample = Sample(self.seed)
        self._store = self._empty_store()

    def _empty_store(self) -> Histograms | SortedRuns:
        if self._dense:
            return Histograms(self.neurons, self._sample)
        return SortedRuns(self.neurons, self._sample, self.budget, self.over_budget)

    @property
    def nbytes(self) -> int:
        """Memory that the counts take now."""
        return self._store.nbytes

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
            self._store.add(pack_states(planes))
        elif isinstance(self._store, Histograms) and not self._sample.halvings:
            self._kernels.count(planes, self._store.on(planes.device).numpy())
        else:
            self._store.add(self._kernels.pack(planes))

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
        halvings = max(self._sample.halvings, other._sample.halvings)
        added = self._sample.of_run(other._store.as_run(), halvings - other._sample.halvings)
        if halvings > self._sample.halvings:
            kept = self._sample.of_run(self._store.as_run(), halvings - self._sample.halvings)
            self._sample.halvings = halvings
            self._store = self._empty_store()
            self._store.add_run(kept)
        self._store.add_run(added)

    def compute(self) -> StateCounts:
        """The states counted so far; counting may continue afterwards.

        Raises:
            InputError: Nothing was counted.
        """
        run = self._store.as_run()
        if not len(run):
            raise InputError("No observation was counted. Run the model on at least one sample first.")
        return StateCounts(self.neurons, tuple(run.blocks), self.order, 0.5**self._sample.halvings)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything counted, as plain arrays; `from_arrays` is the inverse."""
        blocks = self._store.as_run().blocks
        none = np.zeros((0, self._words), dtype=np.uint64)
        states = np.concatenate([none, *(block.states for block in blocks)])
        counts = np.concatenate([none[:, 0], *(block.counts for block in blocks)]).astype(np.int64)
        return {
            "format": np.array(_FORMAT),
            "neurons": np.array(self.neurons),
            "halvings": np.array(self._sample.halvings),
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
        if missing or _number(arrays["format"]) != _FORMAT:
            raise InputError(
                f"These are not the arrays of a counter, format {_FORMAT}: missing {sorted(missing)}."
            )
        counter = cls(_number(arrays["neurons"]), **options)
        states, counts = arrays["states"], arrays["counts"]
        fits = counts.ndim == 1 and states.shape == (len(counts), counter._words)
        fits = fits and states.dtype == np.uint64 and counts.dtype == np.int64
        if not fits or (counts < 1).any():
            raise InputError("The arrays of this counter are damaged: states and counts do not fit together.")
        spare = 64 * counter._words - counter.neurons
        if spare and (states[:, -1] >> np.uint64(64 - spare)).any():
            raise InputError(
                "The arrays of this counter are damaged: a state has more neurons than the layer."
            )
        counter._sample.halvings = _number(arrays["halvings"])
        counter._store.add_run(group_states(states, counts))
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
        with ArrayFile(Path(path)) as file:
            arrays = file.read(file.names)
        return cls.from_arrays(arrays, **options)


def _number(array: npt.NDArray[Any]) -> int:
    if array.ndim or array.dtype.kind not in "iu" or not 0 <= array <= _LARGEST_NUMBER:
        raise InputError(
            "The arrays of this counter are damaged: format, neurons and halvings must be whole numbers."
        )
    return int(array)
