"""What a training needs of an engine, and which engine it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from aiq_search.errors import InputError
from aiq_search.training.capture import CaptureOptions
from aiq_search.training.engines.torch_engine import TorchEngine
from aiq_search.training.kernel_cache import wait_for_compiler
from aiq_search.training.options import TrainingOptions

if TYPE_CHECKING:
    from aiq_search.training.evaluation import Evaluation, TensorSplit

__all__ = ["Engine", "make_engine"]

# From so many weights on torch trains a network of linear layers faster. Measured on MNIST, the compiled
# engine is 1.06 times as fast with 1024-256 neurons (1.06 million weights), 0.97 times with 1024-1024
# (1.86 million), and 0.89 times with 2048-2048.
_LARGE = 1_500_000
# The compiled engine uses one core. A network with fewer weights has too little work for several.
_SMALL = 20_000


class Engine(Protocol):
    """Trains and measures one network.

    Attributes:
        name: torch or compiled.
        reason: Why torch, where compiled would have been taken; else None.
        model: The network; its parameters and buffers are up to date after every call.
    """

    name: str
    reason: str | None
    model: nn.Module

    def train(
        self, split: TensorSplit, batches: Sequence[Tensor], learning_rates: Sequence[float]
    ) -> list[float]:
        """Take a step of the optimizer for each batch.

        Args:
            split: What is learnt from.
            batches: Indices of the samples of each batch.
            learning_rates: Step size of each.

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
    model: nn.Module,
    options: TrainingOptions,
    split: TensorSplit,
    device: torch.device,
    capture: CaptureOptions = CaptureOptions(),  # noqa: B008 - frozen
) -> Engine:
    """The engine that a network is trained with.

    Args:
        model: The network, on ``device``.
        options: How it is trained; ``options.engine`` is auto, torch or compiled. auto is compiled for the
            networks that it supports, except where torch is faster.
        split: What it learns from, on ``device``.
        device: Where.
        capture: Which states an evaluation captures.

    Raises:
        InputError: The compiled engine is asked for, but cannot train this network.
    """
    if options.engine == "torch" or device.type != "cpu":
        return TorchEngine(model, options, split, capture)
    if options.engine == "auto" and _torch_is_faster(model):
        return TorchEngine(model, options, split, capture, "torch trains networks of this size faster")
    # numba takes a quarter of a second to import; who trains on torch need not wait for it.
    from aiq_search.training.engines.compiled import CompiledEngine, UnknownNetworkError

    wait_for_compiler()
    try:
        return CompiledEngine(model, options, split, capture)
    except UnknownNetworkError as error:
        if options.engine == "auto":
            return TorchEngine(model, options, split, capture, f"the compiled engine does not know {error}")
        raise InputError(
            f"training.engine is compiled, but that engine does not know this network ({error}); "
            "set training.engine to auto or torch."
        ) from None


def _torch_is_faster(model: nn.Module) -> bool:
    """Whether torch trains a network faster than the compiled engine, on as many threads as torch may use."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    weights = sum(layer.weight.numel() for layer in layers)
    if torch.get_num_threads() > 1 and weights >= _SMALL:
        return True
    return weights >= _LARGE and all(isinstance(layer, nn.Linear) for layer in layers)
