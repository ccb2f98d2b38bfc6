"""What a training needs of an engine, and which engine it gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from aiq_search.errors import InputError
from aiq_search.training.engines.torch_engine import TorchEngine
from aiq_search.training.kernel_cache import wait_for_compiler
from aiq_search.training.options import TrainingOptions

if TYPE_CHECKING:
    from aiq_search.training.evaluation import Evaluation, TensorSplit

__all__ = ["Engine", "make_engine"]


class Engine(Protocol):
    """Trains and measures one network.

    Attributes:
        name: torch or compiled.
        model: The network; its parameters and buffers are up to date after every call.
    """

    name: str
    model: nn.Module

    def train(self, split: TensorSplit, batches: Iterable[Tensor], learning_rate: float) -> list[float]:
        """Take a step of the optimizer for each batch.

        Args:
            split: What is learnt from.
            batches: Indices of the samples of each batch.
            learning_rate: Step size.

        Returns:
            For each batch the sum of its samples' losses.
        """

    def evaluate(self, split: TensorSplit, beta: float) -> Evaluation:
        """Measure the network on a whole split, in evaluation mode."""

    def optimizer_state(self) -> dict[int, dict[str, Tensor]]:
        """What the optimizer remembers of each parameter, by the parameter's number, as torch names it."""

    def load_optimizer_state(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """The inverse of ``optimizer_state``."""


def make_engine(
    model: nn.Module, options: TrainingOptions, split: TensorSplit, device: torch.device
) -> Engine:
    """The engine that a network is trained with.

    Args:
        model: The network, on ``device``.
        options: How it is trained; ``options.engine`` is auto, torch or compiled.
        split: What it learns from, on ``device``.
        device: Where.

    Raises:
        InputError: The compiled engine is asked for, but cannot train this network.
    """
    if options.engine == "torch" or device.type != "cpu":
        return TorchEngine(model, options, split)
    # numba takes a quarter of a second to import; who trains on torch need not wait for it.
    from aiq_search.training.engines.compiled import CompiledEngine, UnknownNetworkError

    wait_for_compiler()
    try:
        return CompiledEngine(model, options, split)
    except UnknownNetworkError as error:
        if options.engine == "auto":
            return TorchEngine(model, options, split)
        raise InputError(
            f"training.engine is compiled, but that engine does not know this network ({error}); "
            "set training.engine to auto or torch."
        ) from None
