"""A data set in memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset", "Normalization", "Split"]


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        inputs: uint8 or float32, (N, C, H, W) for images, (N, F) for tables.
        labels: int64, (N,), in [0, classes).
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Normalization:
    """The affine map that the network's inputs go through: ``x * scale + shift``.

    Attributes:
        scale: One number a channel (images) or a feature (tables).
        shift: Likewise.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def standardise(cls, inputs: NDArray[Any]) -> Normalization:
        """The map that gives ``inputs`` mean 0 and standard deviation 1 a channel.

        A constant channel is only shifted.

        Example:
            >>> Normalization.standardise(np.array([[0, 5], [4, 5]], np.float32))
            Normalization(scale=(0.5, 1.0), shift=(-1.0, -5.0))
        """
        axes = (0, *range(2, inputs.ndim))
        mean = inputs.mean(axis=axes, dtype=np.float64)
        deviation = inputs.std(axis=axes, dtype=np.float64)
        scale = 1 / np.where(deviation > 0, deviation, 1.0)
        return cls(tuple(scale.tolist()), tuple((-mean * scale).tolist()))


@dataclass(frozen=True)
class Dataset:
    """Everything a trial needs to know of its data, as plain arrays.

    The arrays stay in the form in which they came (uint8 for images), because that is what the trials
    of a machine share, and what a user of the exported network has.

    Attributes:
        name: The name it was loaded by.
        train: Samples to learn from, with label noise applied where asked for.
        validation: Samples to select on.
        test: Samples for the last line of the report.
        classes: Name of each class.
        normalization: What the inputs go through before the network.
        digest: SHA-256 over all splits.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    normalization: Normalization
    digest: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.inputs.shape[1:])

    def split(self, name: str) -> Split:
        """The split called train, validation or test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def digest_now(self) -> str:
        """``digest``, computed again from the arrays as they are here."""
        return digest_of({"train": self.train, "validation": self.validation, "test": self.test})

    def description(self) -> dict[str, Any]:
        """Name, digest, sizes and classes as a JSON document."""
        return {
            "name": self.name,
            "digest": self.digest,
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
            "input_shape": list(self.input_shape),
            "input_dtype": str(self.train.inputs.dtype),
            "classes": list(self.classes),
        }


def digest_of(splits: Mapping[str, Split]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of some splits, in their order."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        for array in (split.inputs, split.labels):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def split_off(split: Split, amount: float, random: np.random.Generator, *, what: str) -> tuple[Split, Split]:
    """Take some samples out of a split at random, each class in its proportion.

    Args:
        split: Where they are taken from.
        amount: How many samples (an int), or which fraction of them (a float).
        random: Decides which.
        what: Name of the new split, for the message.

    Returns:
        The samples that stay and the samples taken, each in their old order.

    Raises:
        ValueError: Nothing would be taken, or nothing left.
    """
    size = amount if isinstance(amount, int) else round(amount * len(split))
    if not 0 < size < len(split):
        raise ValueError(f"dataset.{what} must leave samples to train on: {size} of {len(split)} asked for.")
    # Shuffled, then sorted by class (stably): each class is one run, and every k-th position overall
    # takes the same share of each.
    order = random.permutation(len(split))
    order = order[np.argsort(split.labels[order], kind="stable")]
    ranks = (np.arange(size) * len(split) + random.integers(len(split))) // size % len(split)
    taken = np.zeros(len(split), bool)
    taken[order[ranks]] = True
    return (
        Split(split.inputs[~taken], split.labels[~taken]),
        Split(split.inputs[taken], split.labels[taken]),
    )


def randomise_labels(
    labels: NDArray[np.int64], fraction: float, classes: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Replace a fraction of the labels by uniformly random ones (which may be the old ones).

    Args:
        labels: (N,).
        fraction: Between 0 and 1; ``round(fraction * N)`` labels are drawn anew.
        classes: Number of classes.
        random: Decides which, and what they become.

    Returns:
        A new array.
    """
    noisy = labels.copy()
    chosen = random.permutation(len(labels))[: math.floor(fraction * len(labels) + 0.5)]
    noisy[chosen] = random.integers(classes, size=len(chosen))
    return noisy
