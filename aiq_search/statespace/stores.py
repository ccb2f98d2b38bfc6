"""Where counted states are kept: in a histogram where all states fit one, in sorted runs otherwise.

Both may hold a sample instead of everything (`Sample`), each state with the number of observations that were
kept of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from aiq_search.errors import InputError
from aiq_search.statespace.packing import words_for
from aiq_search.statespace.runs import Block, Run, group_states, merge_runs

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Histograms", "OverBudget", "Sample", "SortedRuns"]

OverBudget = Literal["error", "sample"]

# Bytes of states that wait, unsorted, for the next sorting.
_PENDING_BYTES = 6 << 20


class Sample:
    """Which observations are kept: all, or half of them as often as memory ran out.

    Args:
        seed: Fixes the choice.

    Attributes:
        halvings: How often the kept observations were halved.
    """

    def __init__(self, seed: int) -> None:
        self.halvings = 0
        self._random = np.random.default_rng(seed)

    def of_states(self, states: torch.Tensor) -> torch.Tensor:
        """The part of new observations that is kept."""
        if not self.halvings:
            return states
        kept = self._random.random(len(states)) < 0.5**self.halvings
        return states[torch.from_numpy(kept).to(states.device)]

    def of_run(self, run: Run, halvings: int) -> Run:
        """A run of which each observation is kept with probability ``2^-halvings``."""
        if not halvings:
            return run
        thinned = Run()
        for block in run.blocks:
            counts = self._random.binomial(block.counts.astype(np.int64), 0.5**halvings)
            left = counts > 0
            thinned.append(Block.of(block.keys[left], block.states[left], counts[left]))
        return thinned


class Histograms:
    """One count for every possible state, for layers of few neurons.

    Args:
        neurons: Number of neurons of the layer.
        sample: Which observations are kept.
    """

    def __init__(self, neurons: int, sample: Sample) -> None:
        self._size = 1 << neurons
        self._sample = sample
        # One a device, so that a batch is counted where it is.
        self._by_device: dict[torch.device, torch.Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(8 * histogram.numel() for histogram in self._by_device.values())

    def on(self, device: torch.device) -> torch.Tensor:
        """The counts of a device, int64, to add to."""
        if device not in self._by_device:
            self._by_device[device] = torch.zeros(self._size, dtype=torch.int64, device=device)
        return self._by_device[device]

    def add(self, states: torch.Tensor) -> None:
        """Count packed states, or a sample of them."""
        indices = self._sample.of_states(states).reshape(-1)
        histogram = self.on(states.device)
        if states.device.type == "cpu" and self._size <= len(indices):
            counts = histogram.numpy()
            counts += np.bincount(indices.numpy(), minlength=self._size)
        else:
            one = torch.ones((), dtype=torch.int64, device=states.device)
            histogram.scatter_add_(0, indices, one.expand(len(indices)))

    def add_run(self, run: Run) -> None:
        """Add counted states."""
        counts = self.on(torch.device("cpu")).numpy()
        for block in run.blocks:
            counts[block.keys] += block.counts.astype(np.int64)

    def as_run(self) -> Run:
        """Everything kept, as one run."""
        total = np.zeros(self._size, dtype=np.int64)
        for histogram in self._by_device.values():
            total += histogram.cpu().numpy()
        keys = np.flatnonzero(total)
        return Run([Block.of(keys, keys.view(np.uint64).reshape(-1, 1), total[keys])])


@dataclass
class _Pending:
    """States that wait to be sorted into a run."""

    parts: list[torch.Tensor] = field(default_factory=list)
    length: int = 0


class SortedRuns:
    """The distinct states that were seen, sorted, for layers of any width; memory grows with them.

    Args:
        neurons: Number of neurons of the layer.
        sample: Which observations are kept.
        budget: Bytes that the states may take; None for no limit.
        over_budget: Whether to raise an error beyond the budget, or to halve the sample.
    """

    def __init__(self, neurons: int, sample: Sample, budget: int | None, over_budget: OverBudget) -> None:
        self._sample = sample
        self._budget = budget
        self._over_budget = over_budget
        self._row = 8 * words_for(neurons)
        room = _PENDING_BYTES if budget is None else min(_PENDING_BYTES, budget // 4)
        self._limit = max(1, room // self._row)
        self._pending = _Pending()
        self._runs: list[Run] = []

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(run.nbytes for run in self._runs) + self._row * self._pending.length

    def add(self, states: torch.Tensor) -> None:
        """Count packed states, or a sample of them.

        Raises:
            InputError: The budget is exceeded.
        """
        for part in torch.split(states, self._limit):
            kept = self._sample.of_states(part)
            self._pending.parts.append(kept)
            self._pending.length += len(kept)
            if self._pending.length >= self._limit:
                self._flush()

    def add_run(self, run: Run) -> None:
        """Add counted states; the run stays as it is.

        Raises:
            InputError: The budget is exceeded.
        """
        if len(run):
            self._push(Run(run.blocks))  # merging uses up a run, and this one may be another store's

    def as_run(self) -> Run:
        """Everything kept, as one run."""
        self._flush()
        self._merge_all()
        return self._runs[0] if self._runs else Run()

    def _flush(self) -> None:
        """Sort what is pending into a run, and merge runs that have grown alike."""
        if self._pending.length:
            pending, self._pending = self._pending.parts, _Pending()
            # From here on one copy alone is alive: sorting takes several times its memory.
            states: npt.NDArray[np.uint64] = (
                torch.cat([part.cpu() for part in pending]).numpy().view(np.uint64)
            )
            pending.clear()
            self._push(group_states(states))

    def _push(self, run: Run) -> None:
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            right = self._runs.pop()
            left = self._runs.pop()
            self._runs.append(merge_runs(left, right))
        if self._budget is not None and self.nbytes + self._row * self._limit > self._budget:
            self._merge_all()
            self._keep_to(self._budget)

    def _merge_all(self) -> None:
        while len(self._runs) > 1:
            right = self._runs.pop()
            self._runs[-1] = merge_runs(self._runs[-1], right)

    def _keep_to(self, budget: int) -> None:
        """Make the one run fit, next to what may wait to be sorted."""
        room = budget - self._row * self._limit
        while self._runs and self._runs[0].nbytes > room:
            run = self._runs[0]
            if self._over_budget == "error":
                needed = run.nbytes + budget - room
                raise InputError(
                    f"The {len(run):,} distinct states seen so far take {needed:,} bytes, more than the "
                    f"budget of {budget:,}, and there may be more to come. Give a larger budget, fewer "
                    "observations, or over_budget='sample' for an estimate from a random sample."
                )
            self._sample.halvings += 1
            self._runs[0] = self._sample.of_run(run, 1)
