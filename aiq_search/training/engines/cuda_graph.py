"""A training step whose kernels are launched together: captured once as a CUDA graph, then replayed.

A narrow network's step is some dozens of kernels that each compute for a few microseconds, and launching them
one by one takes longer than that. A graph is launched once for all of them. It reads and writes the same
memory every time, so whatever changes from step to step is copied into buffers of its own before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from aiq_search.errors import InputError

__all__ = ["CudaGraph", "GraphedStep", "RecordStep"]

# torch asks for some steps before a capture: libraries load their kernels, the optimizer takes its memory.
WARM_UP = 3


class Graph(Protocol):
    """A captured computation.

    Attributes:
        result: Where a replay puts it.
    """

    result: Tensor

    def replay(self) -> None:
        """Compute again, with what the buffers hold now."""


# Captures a computation, without running it.
RecordStep: TypeAlias = "Callable[[Callable[[], Tensor]], Graph]"


class CudaGraph:
    """A computation as a CUDA graph.

    torch registers the device's default generator with every graph: a replay draws the numbers that the same
    kernels launched one by one would draw, and leaves the generator where they would leave it.

    Args:
        compute: What is captured.

    Raises:
        InputError: Something of it cannot be captured, such as a value read by Python.
    """

    result: Tensor

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self._graph):
                self.result = compute()
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"training.cuda_graphs: a training step of this network cannot be captured ({reason}); "
                "set it to false."
            ) from error

    def replay(self) -> None:
        """Compute again, with what the buffers hold now."""
        self._graph.replay()


class GraphedStep:
    """Takes a step for each batch: the first few and those of another size one by one, all others as a graph.

    Each batch is learnt from once, also those that warm up, and in the order in which they are given.

    Args:
        step: Learns from a batch, and returns its loss. Whatever changes from call to call is in the batch,
            or in a tensor that keeps its place in memory.
        size: Of the batches that are replayed, in samples.
        record: Captures a computation.
    """

    def __init__(
        self, step: Callable[[Mapping[str, Tensor]], Tensor], size: int, record: RecordStep = CudaGraph
    ) -> None:
        self._step = step
        self._size = size
        self._record = record
        self._steps = 0
        self._buffers: dict[str, Tensor] = {}
        self._graph: Graph | None = None

    def __call__(self, batch: Mapping[str, Tensor], samples: int) -> Tensor:
        """Learn from a batch of so many samples; its loss, as a tensor of its own."""
        if samples != self._size:
            return self._step(batch)
        if self._steps < WARM_UP:
            self._steps += 1
            return self._warm_up(batch)
        if self._graph is None:
            self._buffers = {name: tensor.clone() for name, tensor in batch.items()}
            self._graph = self._record(lambda: self._step(self._buffers))
        for name, buffer in self._buffers.items():
            buffer.copy_(batch[name])
        self._graph.replay()
        return self._graph.result.clone()

    def _warm_up(self, batch: Mapping[str, Tensor]) -> Tensor:
        """A step beside the device's default stream, on which nothing can be captured."""
        if batch["indices"].device.type != "cuda":
            return self._step(batch)
        now, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            loss = self._step(batch)
        now.wait_stream(aside)
        loss.record_stream(now)
        return loss
