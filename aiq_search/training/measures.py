"""How right a network's answers are, beside plain accuracy: for uneven classes, two classes, or many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from aiq_search.training.evaluation import Evaluation, TensorSplit

__all__ = [
    "COSTS",
    "INT8_ACCURACY",
    "MEASURES",
    "AccuracyName",
    "Measures",
    "measure_answers",
    "measure_of_the_commonest",
]

MEASURES = ("auroc", "balanced_accuracy", "macro_f1", "top_5")
AccuracyName: TypeAlias = Literal["accuracy", "auroc", "balanced_accuracy", "macro_f1", "top_5"]
# Accuracy of the network in eight bits: measured once, of a confirmation that has ended.
INT8_ACCURACY = "int8/accuracy"
# What a sample takes on a small machine: the most bytes of activations at once, and milliseconds on this CPU.
# They are measured once, before training; latency_ms brings its spread, latency_ms_iqr.
COSTS = ("activation_bytes", "latency_ms")
_TOP = 5


@dataclass(frozen=True)
class Measures:
    """Which of ``MEASURES`` are taken, and which number is the accuracy in aIQ.

    Attributes:
        accuracy: ``accuracy``, or one of ``MEASURES``.
        names: Those that are taken; ``accuracy`` among them, if it is one of them.
    """

    accuracy: AccuracyName = "accuracy"
    names: tuple[str, ...] = ()

    def added_to(self, measured: Evaluation, model: nn.Module, split: TensorSplit, beta: float) -> Evaluation:
        """An evaluation with the measures, and with the aIQ that follows from them.

        It takes another forward pass, so that every engine's evaluations can have them.

        Args:
            measured: Of the model on the split.
            model: The network.
            split: The samples.
            beta: Weight of the accuracy in aIQ.
        """
        if not self.names:
            return measured
        from aiq_search.statespace import aiq
        from aiq_search.training.evaluation import outputs

        values = measure_answers(self.names, outputs(model, split), split.labels.cpu().numpy())
        accuracy = values.get(self.accuracy, measured.accuracy)
        return replace(measured, measures=values, aiq=aiq(accuracy, measured.efficiency, beta))


def measure_answers(
    names: Sequence[str], logits: NDArray[Any], labels: NDArray[np.int64]
) -> dict[str, float]:
    """Some measures of a network's answers, each from 0 to 1, by scikit-learn.

    Classes without a sample count for nothing in the means over classes.

    Args:
        names: Of ``MEASURES``. balanced_accuracy: mean over the classes of the share of their samples that is
            named right. macro_f1: mean over the classes of the harmonic mean of precision and recall. auroc:
            probability that a sample of the second class has a larger logit difference than one of the first;
            one half where a class has no sample. top_5: share of the samples whose label is among the five
            largest logits.
        logits: (N, classes).
        labels: (N,).

    Example:
        >>> logits = np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [1.0, 2.0]])
        >>> measure_answers(["balanced_accuracy", "auroc"], logits, np.array([0, 0, 1, 1]))
        {'balanced_accuracy': 0.75, 'auroc': 0.75}
    """
    from sklearn import metrics

    answers, present = logits.argmax(axis=1), np.unique(labels)
    mean = {"labels": present, "average": "macro", "zero_division": 0.0}
    values = {}
    for name in names:
        if name == "balanced_accuracy":
            value = metrics.recall_score(labels, answers, **mean)
        elif name == "macro_f1":
            value = metrics.f1_score(labels, answers, **mean)
        elif name == "auroc":
            difference = logits[:, 1] - logits[:, 0]
            value = metrics.roc_auc_score(labels, difference) if len(present) == 2 else 0.5
        else:
            classes = np.arange(logits.shape[1])
            value = metrics.top_k_accuracy_score(labels, logits, k=_TOP, labels=classes)
        values[name] = float(value)
    return values


def measure_of_the_commonest(name: str, counts: Sequence[int]) -> float:
    """What accuracy or a measure is for a network that always names the commonest classes.

    Args:
        name: ``accuracy``, or one of ``MEASURES``.
        counts: Samples of each class.

    Example:
        >>> measure_of_the_commonest("accuracy", [90, 10]), measure_of_the_commonest("auroc", [90, 10])
        (0.9, 0.5)
    """
    shares = sorted((count / sum(counts) for count in counts if count), reverse=True)
    largest = shares[0]
    return {
        "accuracy": largest,
        "auroc": 0.5,
        "balanced_accuracy": 1 / len(shares),
        "macro_f1": 2 * largest / (1 + largest) / len(shares),
        "top_5": sum(shares[:_TOP]),
    }[name]
