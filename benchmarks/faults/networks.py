"""Networks that take their time, or fail in a chosen way: what the fault tests train."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["network"]

_TERABYTE = 1 << 40
_CHUNK = 256 << 20


class _Slow(nn.Module):
    """A hidden layer; the first batch of each epoch takes ``pause`` seconds, or meets its fault."""

    def __init__(self, features: int, width: int, classes: int, pause: float, fault: str) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, width)
        self.activation = nn.ELU()
        self.output = nn.Linear(width, classes)
        self._pause = pause
        self._fault = fault
        self._rested = False

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and not self._rested:
            time.sleep(self._pause)
            self._meet_fault()
        self._rested = self.training
        return self.output(self.activation(self.hidden(inputs.flatten(1))))

    def _meet_fault(self) -> None:
        if self._fault == "raise":
            raise ValueError("the user's model has a bug")
        if self._fault == "memory":
            torch.empty(_TERABYTE, dtype=torch.uint8).fill_(1)
        if self._fault == "swell":
            chunks = []
            for _ in range(32):
                chunks.append(torch.ones(_CHUNK, dtype=torch.uint8))
                time.sleep(0.2)
        if self._fault == "hang":
            time.sleep(100_000)


def network(
    input_shape: Sequence[int], classes: int, *, width: int, pause: float = 0.0, fault: str = "none"
) -> nn.Module:
    """A network with one hidden layer.

    Args:
        input_shape: Shape of one sample.
        classes: Number of classes.
        width: Hidden units.
        pause: Seconds that an epoch takes at least.
        fault: raise, memory (ask for more than there is), swell (take 8 GB bit by bit) or hang; else none.
    """
    return _Slow(torch.Size(input_shape).numel(), width, classes, pause, fault)
