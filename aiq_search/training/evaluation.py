"""What a network does on one split of a data set."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from aiq_search.datasets import Normalization, Split
from aiq_search.statespace import StateCapture, aiq, evaluation_mode, network_efficiency
from aiq_search.training.capture import CaptureOptions

__all__ = ["BATCH_SIZE", "Evaluation", "TensorSplit", "evaluate", "outputs"]

# Samples a forward pass when nothing is learnt: large enough to hide the overhead of a narrow network,
# small enough for the activations of a wide convolution. The result does not depend on it.
BATCH_SIZE = 500


@dataclass(frozen=True)
class Evaluation:
    """A network measured on one split.

    Attributes:
        loss: Mean cross entropy, in nats.
        accuracy: Fraction of samples whose label has the largest logit.
        efficiency: Geometric mean of the layers' efficiencies.
        aiq: (accuracy^beta * efficiency)^(1 / (beta + 1)).
        layers: Efficiency of each layer that was measured, by name.
        samples: Size of the split.
        measures: Other measures of the answers that were asked for, by name; see ``training.measures``.
    """

    loss: float
    accuracy: float
    efficiency: float
    aiq: float
    layers: Mapping[str, float]
    samples: int
    measures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, loss: float, right: int, samples: int, layers: Mapping[str, float], beta: float
    ) -> Evaluation:
        """From the sum of the losses, the number of right answers, and the layers' efficiencies."""
        accuracy = right / samples
        efficiency = network_efficiency(list(layers.values()))
        return cls(
            loss=loss / samples,
            accuracy=accuracy,
            efficiency=efficiency,
            aiq=aiq(accuracy, efficiency, beta),
            layers=layers,
            samples=samples,
        )


@dataclass(frozen=True)
class TensorSplit:
    """A split as tensors on a device, with the normalisation that turns a batch into network input."""

    inputs: Tensor
    labels: Tensor
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, split: Split, normalization: Normalization, device: torch.device) -> TensorSplit:
        """View a split's arrays as tensors (CPU: without a copy) and move them to ``device``."""
        shape = (-1, *[1] * (split.inputs.ndim - 2))
        scale, shift = (
            torch.tensor(numbers, dtype=torch.float32).reshape(shape).to(device)
            for numbers in (normalization.scale, normalization.shift)
        )
        return cls(_tensor(split.inputs).to(device), _tensor(split.labels).to(device), scale, shift)

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, raw: Tensor) -> Tensor:
        """Network input, float32, for a batch of raw inputs."""
        return raw.float() * self.scale + self.shift

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Network input and labels of the samples at ``indices``."""
        return self.normalised(self.inputs.index_select(0, indices)), self.labels.index_select(0, indices)


def _tensor(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        # Arrays that the trials of a machine share are read-only. Nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))


@torch.inference_mode()
def outputs(model: nn.Module, split: TensorSplit) -> NDArray[Any]:
    """The logits of a network, (N, classes), for a whole split, in evaluation mode."""
    with evaluation_mode(model):
        logits = [model(split.normalised(raw)).cpu() for raw in torch.split(split.inputs, BATCH_SIZE)]
    return torch.cat(logits).double().numpy()


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: TensorSplit,
    *,
    beta: float,
    capture: CaptureOptions = CaptureOptions(),  # noqa: B008 - frozen
) -> Evaluation:
    """Measure a network on a whole split, in evaluation mode.

    Args:
        model: On the split's device; the mode of each of its modules is restored afterwards.
        split: What to measure on.
        beta: Weight of accuracy in aIQ.
        capture: Which states are captured; by default those of every hidden Linear and Conv.

    Returns:
        Loss, accuracy, efficiencies and aIQ.

    Raises:
        InputError: The network has none of the layers, or one of them cannot be measured.
    """
    loss = torch.zeros((), dtype=torch.float64, device=split.labels.device)
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    with evaluation_mode(model), StateCapture(model, **capture.fitting(model).keywords()) as captured:
        for raw, labels in zip(
            torch.split(split.inputs, BATCH_SIZE), torch.split(split.labels, BATCH_SIZE), strict=True
        ):
            logits = model(split.normalised(raw))
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
        states = captured.compute()
    efficiencies = {name: layer.efficiency for name, layer in states.items()}
    return Evaluation.of(loss.item(), int(correct), len(split), efficiencies, beta)
