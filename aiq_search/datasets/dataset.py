"""A data set in memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.datasets.labels import class_warnings
from aiq_search.datasets.mapped import sent_as_file
from aiq_search.errors import InputError

if TYPE_CHECKING:
    from aiq_search.datasets.encoding import TableEncoding

__all__ = ["Dataset", "Normalization", "Split"]

# Samples whose values are counted at once.
_COUNTED = 1024
# Bytes of floating-point inputs whose moments are computed at once.
_AT_ONCE = 2**28


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        inputs: uint8 or float32, (N, …): (N, C, H, W) for images, (N, C, L) for signals, (N, F) for tables.
        labels: int64, (N,), in [0, classes).
        groups: int64, (N,): samples of one group are not to be split further; None where each may be.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: NDArray[np.bool_]) -> Split:
        """The samples that a mask, (N,), chooses."""
        groups = None if self.groups is None else self.groups[chosen]
        return Split(self.inputs[chosen], self.labels[chosen], groups)


@dataclass(frozen=True)
class Normalization:
    """The affine map that the network's inputs go through: ``x * scale + shift``.

    Attributes:
        scale: One number for each channel (images, signals) or feature (tables): each index of axis 1.
        shift: Likewise.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def standardise(cls, inputs: NDArray[Any]) -> Normalization:
        """The map that gives each channel of ``inputs`` mean 0 and standard deviation 1.

        A constant channel is only shifted.

        Raises:
            ValueError: A channel's values are so small or large that float32 cannot hold its map.

        Example:
            >>> Normalization.standardise(np.array([[0, 5], [4, 5]], np.float32))
            Normalization(scale=(0.5, 1.0), shift=(-1.0, -5.0))
        """
        axes = (0, *range(2, inputs.ndim))
        if inputs.dtype == np.uint8:
            mean, deviation = _byte_moments(inputs)
        else:
            mean, deviation = _float_moments(inputs, axes)
        scale = 1 / np.where(deviation > 0, deviation, 1.0)
        shift = -mean * scale
        extreme = np.flatnonzero(np.maximum(scale, abs(shift)) > np.finfo(np.float32).max)
        if len(extreme):
            channel = extreme[0]
            raise ValueError(
                f"channel {channel} of the inputs (mean {mean[channel]:g}, standard deviation "
                f"{deviation[channel]:g}) cannot be normalised in float32; scale the data first"
            )
        return cls(tuple(scale.tolist()), tuple(shift.tolist()))


def _float_moments(
    inputs: NDArray[Any], axes: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, in float64, from parts that fit the memory."""
    if inputs.nbytes <= _AT_ONCE:
        return inputs.mean(axis=axes, dtype=np.float64), inputs.std(axis=axes, dtype=np.float64)
    step = max(1, _AT_ONCE * len(inputs) // inputs.nbytes)
    parts = [slice(begin, begin + step) for begin in range(0, len(inputs), step)]
    values = inputs.size // inputs.shape[1]
    mean = sum(inputs[part].sum(axis=axes, dtype=np.float64) for part in parts) / values
    centre = mean.reshape(-1, *[1] * (inputs.ndim - 2))
    squares = sum(((inputs[part] - centre) ** 2).sum(axis=axes) for part in parts)
    return mean, np.sqrt(squares / values)


def _byte_moments(inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, from how often it has each of its 256 values."""
    channels = inputs.shape[1]
    counts = np.zeros((channels, 256), np.int64)
    for begin in range(0, len(inputs), _COUNTED):  # numpy counts 64-bit copies
        for channel in range(channels):
            counts[channel] += np.bincount(inputs[begin : begin + _COUNTED, channel].ravel(), minlength=256)
    values, number = np.arange(256), counts.sum(axis=1)
    mean = counts @ values / number
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / number
    return mean, np.sqrt(variance)


@dataclass(frozen=True)
class Dataset:
    """Everything a trial needs to know about its data, as plain arrays.

    The arrays keep the form in which they were loaded (uint8 for images), because that is what the trials on
    a machine share, and what a user of the exported network has.

    Attributes:
        name: The name it was loaded by.
        train: Samples to learn from, label noise included.
        validation: Samples to select on.
        test: Samples for the final numbers alone.
        classes: Name of each class.
        normalization: Applied to the inputs before the network.
        digest: SHA-256 over all splits.
        encoding: How rows of a table become inputs; None for other data.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    normalization: Normalization
    digest: str
    encoding: TableEncoding | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.inputs.shape[1:])

    def split(self, name: str) -> Split:
        """The split called train, validation or test."""
        return self._splits[name]

    def with_classes(self, classes: tuple[str, ...]) -> Dataset:
        """The same samples, their classes numbered as a network numbers them.

        Args:
            classes: Names of the network's outputs.

        Raises:
            InputError: A class of the data is not among them.
        """
        if classes == self.classes:
            return self
        unknown = sorted(set(self.classes) - set(classes))
        if unknown:
            raise InputError(
                f"{self.name}: its class {unknown[0]!r} is not one of the network's {len(classes):,} classes."
            )
        positions = {name: position for position, name in enumerate(classes)}
        numbers = np.array([positions[name] for name in self.classes])
        splits = {name: Split(split.inputs, numbers[split.labels]) for name, split in self._splits.items()}
        return replace(
            self,
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            classes=classes,
            digest=digest_of(splits),
        )

    def digest_now(self) -> str:
        """``digest``, computed again from the arrays as they are now."""
        return digest_of(self._splits)

    def for_this_machine(self) -> Dataset:
        """The same data, whose mapped files other processes of this machine map too, instead of copying."""
        mapped = {
            name: replace(split, inputs=sent_as_file(split.inputs)) for name, split in self._splits.items()
        }
        return replace(self, **mapped)  # type: ignore[arg-type]

    @property
    def _splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def class_counts(self) -> dict[str, list[int]]:
        """How many samples of each class a split has, by the name of the split."""
        return {
            name: np.bincount(split.labels, minlength=len(self.classes)).tolist()
            for name, split in self._splits.items()
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know of these data before trusting a number measured on them, one sentence or two each."""
        return (*class_warnings(self.class_counts, self.classes), *_shape_warnings(self.train.inputs))

    def description(self) -> dict[str, Any]:
        """Name, digest, sizes, classes and warnings as a JSON document."""
        return {
            "name": self.name,
            "digest": self.digest,
            **{name: len(split) for name, split in self._splits.items()},
            "input_shape": list(self.input_shape),
            "input_dtype": str(self.train.inputs.dtype),
            "classes": list(self.classes),
            "class_counts": self.class_counts,
            "warnings": list(self.warnings),
        }


def _shape_warnings(inputs: NDArray[Any]) -> Iterator[str]:
    if inputs.ndim == 3 and inputs.dtype == np.uint8:
        _, channels, length = inputs.shape
        yield (
            f"Samples of shape ({channels}, {length}) are read as signals of {channels} channels; save grey "
            f"images as (N, 1, {channels}, {length})."
        )


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

    Where the split has groups, whole groups are taken: about as many samples, in about that proportion.

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
        raise ValueError(
            f"dataset.{what} must take at least one sample and leave one to train on, but {size:,} of "
            f"{len(split):,} would be taken."
        )
    if split.groups is None:
        taken = _stratified(split.labels, size, random)
    else:
        taken = _whole_groups(split.labels, split.groups, size, random)
        if taken.all() or not taken.any():
            raise ValueError(
                f"dataset.{what} cannot take about {size:,} of {len(split):,} samples in whole groups and "
                f"leave some: there are {len(np.unique(split.groups)):,} groups."
            )
    return split.part(~taken), split.part(taken)


def _stratified(labels: NDArray[np.int64], size: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of ``size`` samples, each class in its proportion."""
    # Shuffled, then sorted by class (stably): each class is one run, and every k-th position overall
    # takes the same share of each.
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    ranks = (np.arange(size) * len(labels) + random.integers(len(labels))) // size % len(labels)
    taken = np.zeros(len(labels), bool)
    taken[order[ranks]] = True
    return taken


def _whole_groups(
    labels: NDArray[np.int64], groups: NDArray[np.int64], size: int, random: np.random.Generator
) -> NDArray[np.bool_]:
    """A mask of whole groups, about ``size`` samples.

    Groups are looked at from the largest to the smallest, equally large ones in random order. One is taken
    where that brings the number of samples of each class nearer to its share.
    """
    numbers, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(numbers), int(labels.max()) + 1))
    np.add.at(counts, (group, labels), 1)
    sizes = counts.sum(axis=1)
    # A class of n samples is off by about sqrt(n) by chance: a rare one counts for as much as a common one.
    counts /= np.sqrt(np.maximum(1, counts.sum(axis=0)))
    wanted = counts.sum(axis=0) * (size / len(labels))
    order = random.permutation(len(numbers))
    order = order[np.argsort(-sizes[order], kind="stable")]
    chosen = np.zeros(len(numbers), bool)
    for number in order:
        nearer = wanted - counts[number]
        if (nearer**2).sum() < (wanted**2).sum():
            chosen[number], wanted = True, nearer
    return chosen[group]


def randomise_labels(
    labels: NDArray[np.int64], fraction: float, classes: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Replace a fraction of the labels by uniformly random ones (which may be the old ones).

    Args:
        labels: (N,).
        fraction: Between 0 and 1; ``round(fraction * N)`` labels are drawn again.
        classes: Number of classes.
        random: Decides which, and what they become.

    Returns:
        A new array.
    """
    noisy = labels.copy()
    chosen = random.permutation(len(labels))[: math.floor(fraction * len(labels) + 0.5)]
    noisy[chosen] = random.integers(classes, size=len(chosen))
    return noisy
