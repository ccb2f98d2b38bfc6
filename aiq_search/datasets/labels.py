"""Classes: their names from the labels, their numbers for the network, and how even they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.errors import InputError

__all__ = ["class_names", "class_warnings", "number_labels", "plain_labels"]

_MOST_CLASSES = 100_000
LONGEST_NAME = 100
# A class with less than this fraction of an even share of the samples is rare.
_RARE = 0.2
_SHOWN = 10
_ADJECTIVES = {"train": "training"}


def number_labels(
    labels: Mapping[str, NDArray[Any]], classes: tuple[str, ...] | None, where: str
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Number the labels from 0, and name the classes.

    Where the source names its classes, a label is the position of one of the names, or the name itself.
    Otherwise every different label is a class: 5, 15 and 25 are three classes with these names.

    Args:
        labels: By split, each (N,): whole numbers, booleans or text.
        classes: Names of the classes, where the source has them.
        where: The source, for messages.

    Returns:
        The numbers by split, and the names.

    Raises:
        InputError: The labels are of another kind, are not among the classes, or are all the same.

    Example:
        >>> number_labels({"train": np.array([5, 25, 15, 5])}, None, "data.npz")
        ({'train': array([0, 2, 1, 0])}, ('5', '15', '25'))
    """
    plain = {split: plain_labels(array, f"{where}: y_{split}") for split, array in labels.items()}
    if len({array.dtype.kind for array in plain.values()}) > 1:
        raise InputError(f"{where}: the labels are numbers in one split and text in another.")
    distinct = np.unique(np.concatenate(list(plain.values())))
    if len(distinct) < 2:
        raise InputError(
            f"{where}: every sample has the label {str(distinct[0])!r}; there must be at least two classes."
        )
    if classes is None:
        classes = class_names(distinct.tolist(), where)
        numbers = np.arange(len(classes))
    elif distinct.dtype.kind == "i":
        _check_positions(distinct, classes, where)
        numbers = distinct
    else:
        position = {name: number for number, name in enumerate(classes)}
        unknown = next((label for label in distinct.tolist() if label not in position), None)
        if unknown is not None:
            raise InputError(f"{where}: the label {unknown!r} is not one of the classes {_listed(classes)}.")
        numbers = np.array([position[label] for label in distinct.tolist()])
    return {split: numbers[np.searchsorted(distinct, array)] for split, array in plain.items()}, classes


def class_names(names: Iterable[object], where: str) -> tuple[str, ...]:
    """Names of classes as text.

    Args:
        names: Whole numbers or text.
        where: The source, for messages.

    Raises:
        InputError: There are too many, or one is empty, too long, not printable, or used twice.
    """
    texts = tuple(str(name) for name in names)
    if len(texts) > _MOST_CLASSES:
        raise InputError(
            f"{where}: there are {len(texts):,} classes, but at most {_MOST_CLASSES:,} are supported; values "
            "to predict (regression) are not."
        )
    for text in texts:
        if not text or len(text) > LONGEST_NAME or not text.isprintable():
            raise InputError(
                f"{where}: the class name {text[:LONGEST_NAME]!r} must be 1 to {LONGEST_NAME} printable "
                "characters; an empty label usually means that the sample has none: drop it."
            )
    name, uses = Counter(texts).most_common(1)[0] if texts else ("", 0)
    if uses > 1:
        raise InputError(f"{where}: {uses} classes are named {name!r}.")
    return texts


def class_warnings(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> Iterator[str]:
    """What to know of the classes before trusting an accuracy, one sentence or two each.

    Args:
        counts: Samples of each class, by split.
        classes: Names of the classes.
    """
    totals = np.sum([list(split) for split in counts.values()], axis=0)
    samples = int(totals.sum())
    rare = [
        int(number)
        for number in np.argsort(totals, kind="stable")
        if totals[number] * len(classes) < _RARE * samples
    ]
    if rare:
        largest = int(totals.argmax())
        listed = _listed([f"{totals[number]:,} of class {classes[number]!r}" for number in (*rare, largest)])
        which = "class" if len(rare) == 1 else "classes"
        yield (
            f"The classes are uneven ({samples:,} samples: {listed}). A network that always answers "
            f"{classes[largest]!r} has an accuracy of {totals[largest] / samples:.1%}: accuracy hardly "
            f"depends on the rare {which}."
        )
    for split, numbers in counts.items():
        absent = [repr(name) for name, number in zip(classes, numbers, strict=True) if not number]
        if absent:
            which = "class" if len(absent) == 1 else "classes"
            yield f"The {_ADJECTIVES.get(split, split)} split has no sample of {which} {_listed(absent)}."


def plain_labels(labels: NDArray[Any], where: str) -> NDArray[Any]:
    """Labels, or names of classes, as int64 or as text.

    Raises:
        InputError: They are neither.
    """
    if labels.dtype.kind == "b":
        return labels.astype(str)
    if labels.dtype.kind == "U":
        return labels
    if labels.dtype.kind == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{where}: the labels are bytes that are not UTF-8 text.") from None
    if labels.dtype.kind in "iu" and (not labels.size or labels.max() <= np.iinfo(np.int64).max):
        return labels.astype(np.int64)
    raise InputError(
        f"{where}: expected whole numbers or text, but got dtype {labels.dtype}; convert it "
        "with .astype(int) or .astype(str)."
    )


def _check_positions(distinct: NDArray[np.int64], classes: Sequence[str], where: str) -> None:
    lowest, highest = int(distinct[0]), int(distinct[-1])
    if lowest < 0 or highest >= len(classes):
        raise InputError(
            f"{where}: {len(classes):,} classes are named, so the labels must be numbers from 0 to "
            f"{len(classes) - 1:,}, but one is {lowest if lowest < 0 else highest}."
        )


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _SHOWN + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_SHOWN])}, … ({len(names):,} in all), {names[-1]}"
