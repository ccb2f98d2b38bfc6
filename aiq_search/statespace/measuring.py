"""One call that runs a model over data and reports its efficiency and aIQ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from aiq_search.errors import InputError
from aiq_search.statespace.capture import StateCapture
from aiq_search.statespace.entropy import aiq
from aiq_search.statespace.report import EfficiencyReport, LayerReport

__all__ = ["evaluation_mode", "measure"]


def measure(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    accuracy: float | None = None,
    beta: float = 2.0,
    forward: Callable[[Any], Any] | None = None,
    **options: Any,  # noqa: ANN401
) -> EfficiencyReport:
    """Measure a network over a whole data set, in evaluation mode and without gradients.

    Args:
        model: The network; its mode is restored afterwards.
        batches: Batches of inputs, or pairs of inputs and labels as a ``DataLoader`` gives them. With integer
            labels, the accuracy is measured too: the fraction of samples whose label has the largest output.
        accuracy: The accuracy, if it is known; it is then not measured.
        beta: Weight of the accuracy in aIQ, above 0.
        forward: What to do with the inputs of a batch in place of ``model(inputs)``.
        options: As of `StateCapture`: layers, exclude, point, axis, output, order, ….

    Returns:
        The report.

    Raises:
        InputError: There is no batch, a layer cannot be measured, or an argument is out of its range.

    >>> network = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2))
    >>> measure(network, [torch.zeros(4, 2)], accuracy=0.5).aiq
    0.0
    """
    aiq(
        0.0 if accuracy is None else accuracy, 1.0, beta
    )  # wrong numbers are errors before the work, not after
    score = _Score()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with StateCapture(model, **options) as capture, evaluation_mode(model), torch.inference_mode():
        for batch in batches:
            inputs, labels = _parted(batch)
            inputs = inputs.to(device) if isinstance(inputs, torch.Tensor) else inputs
            result = model(inputs) if forward is None else forward(inputs)
            if accuracy is None and labels is not None:
                score.add(result, labels)
        states = capture.compute()
    types = {name: type(module).__name__ for name, module in capture.layers.items()}
    return EfficiencyReport(
        layers=tuple(LayerReport.of(name, types[name], counts) for name, counts in states.items()),
        beta=beta,
        accuracy=score.accuracy if accuracy is None else accuracy,
        point=capture.point,
        order=float(options.get("order", 1.0)),
        output_layer=capture.output_layer,
    )


class _Score:
    """Right answers so far."""

    def __init__(self) -> None:
        self.right = 0
        self.samples = 0

    @property
    def accuracy(self) -> float | None:
        return self.right / self.samples if self.samples else None

    def add(self, result: Any, labels: torch.Tensor) -> None:  # noqa: ANN401
        fits = isinstance(result, torch.Tensor) and result.shape[:1] == labels.shape and result.ndim == 2
        if not fits or labels.is_floating_point():
            raise InputError(
                "Accuracy needs integer labels of shape (N,) and outputs of shape (N, classes). Give inputs "
                "without labels, and accuracy= if it is known."
            )
        self.right += int((result.argmax(1) == labels.to(result.device)).sum())
        self.samples += len(labels)


def _parted(batch: Any) -> tuple[Any, torch.Tensor | None]:  # noqa: ANN401
    if isinstance(batch, (tuple, list)):
        if len(batch) > 2:
            raise InputError(
                f"A batch must be inputs, or a pair of inputs and labels, but has {len(batch)} parts. Say "
                "with forward= how to run the model on it."
            )
        return (batch[0], batch[1]) if len(batch) == 2 else (batch[0], None)
    return batch, None


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards for each module the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
