"""Map-style data sets of torch, torchvision or HuggingFace: ``dataset[i]`` is a sample and its label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiq_search.datasets.dataset import Split
from aiq_search.datasets.labels import class_names, number_labels
from aiq_search.datasets.mapped import file_backed, parts_of
from aiq_search.datasets.progress import with_progress
from aiq_search.datasets.sources import Arrays, Inputs
from aiq_search.errors import InputError
from aiq_search.user_code import describe_error

__all__ = ["MapStyle", "from_map_style", "map_style_splits"]

_SPLITS = ("train", "validation", "test")
# What the label of a sample is called where samples are mappings.
_LABELS = ("label", "labels", "target", "y")
_COPIED = 1024


class MapStyle(Protocol):
    """A data set with a length, whose samples have numbers from 0."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int, /) -> Any:  # noqa: ANN401
        """A sample and its label: a pair, or a mapping with two keys."""


def map_style_splits(returned: object) -> dict[str, MapStyle] | None:
    """The map-style data sets that a function returned, by split; None where it returned something else.

    One data set is all to train on; the other splits are taken from it.
    """
    if isinstance(returned, Mapping):
        given = {str(name): value for name, value in returned.items() if value is not None}
        fits = "train" in given and set(given) <= set(_SPLITS) and all(map(_is_map_style, given.values()))
        return given if fits else None
    return {"train": returned} if _is_map_style(returned) else None  # type: ignore[dict-item]


def _is_map_style(value: object) -> bool:
    if isinstance(value, list | tuple | str | bytes | np.ndarray | Mapping):
        return False
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def from_map_style(
    splits: Mapping[str, MapStyle], where: str, data_dir: Path, groups: str | None = None
) -> Arrays:
    """The samples of map-style data sets, each asked for once.

    They go to a file in ``data_dir`` that is mapped into memory, and that vanishes with the process: there
    may be more of them than memory.

    Args:
        splits: By name, train among them.
        where: Their source, for messages.
        data_dir: Folder of the data files.
        groups: Name of an attribute of the training data set with the group of each sample.

    Raises:
        InputError: A sample cannot be read, or is not like the first; the message has its number.
    """
    lengths = {name: len(dataset) for name, dataset in splits.items()}
    for name, length in lengths.items():
        if length == 0:
            raise InputError(f"{where}: {name} has no sample.")
    label_key: list[str] = []
    first, _ = _sample(splits["train"], 0, f"{where}: train[0]", label_key)
    total = sum(lengths.values())
    everything = file_backed(data_dir / "materialised", (total, *first.shape), first.dtype)
    labels = {}
    for name, part in parts_of(everything, lengths).items():
        given = []
        for index in with_progress(range(lengths[name]), f"reading {name} of {where}"):
            place = f"{where}: {name}[{index}]"
            sample, label = _sample(splits[name], index, place, [])
            if (sample.shape, sample.dtype) != (first.shape, first.dtype):
                raise InputError(
                    f"{place}: expected {first.dtype} {first.shape} as the first sample, but got "
                    f"{sample.dtype} {sample.shape}; resize or convert the samples in the data set."
                )
            part[index] = sample
            given.append(label)
        labels[name] = np.array(given)
    numbers, classes = number_labels(labels, _classes(splits["train"], label_key, where), where)
    rows = parts_of(np.arange(total), lengths)
    made = {name: Split(rows[name], numbers[name]) for name in splits}
    if groups is not None:
        made["train"] = Split(rows["train"], numbers["train"], _groups(splits["train"], groups, where))

    def read(chosen: Mapping[str, NDArray[Any]]) -> Inputs:
        """The samples in the order of the splits, in a file of their own."""
        order = np.concatenate(list(chosen.values()))
        ordered = file_backed(data_dir / "materialised", everything.shape, everything.dtype)
        for begin in range(0, total, _COPIED):
            ordered[begin : begin + _COPIED] = everything[order[begin : begin + _COPIED]]
        return Inputs(parts_of(ordered, {name: len(split) for name, split in chosen.items()}))

    return Arrays(made["train"], classes, made.get("validation"), made.get("test"), read=read)


def _sample(
    dataset: MapStyle, index: int, where: str, label_key: list[str]
) -> tuple[NDArray[Any], int | str]:
    """A sample as uint8 or float32, and its label; appends the name of the label where it has one."""
    try:
        item = dataset[index]
    except Exception as error:  # the user's data set may raise anything
        raise InputError(f"{where} raised {describe_error(error)}") from error
    if isinstance(item, Mapping):
        names = [name for name in _LABELS if name in item]
        others = [name for name in item if name not in _LABELS]
        if len(names) != 1 or len(others) != 1:
            raise InputError(
                f"{where}: expected a label ({', '.join(_LABELS)}) and one input, but got the keys "
                f"{', '.join(map(str, item))}."
            )
        label_key += names
        sample, label = item[others[0]], item[names[0]]
    elif isinstance(item, tuple | list) and len(item) == 2:
        sample, label = item
    else:
        raise InputError(
            f"{where}: expected a pair of a sample and its label, but got {type(item).__name__}."
        )
    label = label.item() if hasattr(label, "item") and getattr(label, "ndim", 0) == 0 else label
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise InputError(f"{where}: expected a label that is a whole number or text, but got {label!r:.100}.")
    return _array(sample, where), label


def _array(sample: Any, where: str) -> NDArray[Any]:  # noqa: ANN401 - of a user's data set
    """A tensor, an array, a picture or a list of numbers as uint8 or float32."""
    picture = hasattr(sample, "getbands")  # of Pillow
    try:
        array = np.asarray(sample)
    except Exception as error:  # ragged lists, tensors on a GPU
        raise InputError(f"{where}: cannot be made an array ({describe_error(error)}).") from None
    if picture:
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    if array.ndim == 0 or not array.size or array.dtype.kind not in "fiub":
        raise InputError(f"{where}: expected an array of numbers, but got {array.dtype} {array.shape}.")
    if array.dtype != np.uint8:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"{where}: holds NaN, infinity, or numbers beyond float32.")
    return array


def _classes(dataset: MapStyle, label_key: list[str], where: str) -> tuple[str, ...] | None:
    """Names of the classes, where the data set has them as torchvision's or HuggingFace's do."""
    names = getattr(dataset, "classes", None)
    features = getattr(dataset, "features", None)
    if names is None and isinstance(features, Mapping) and label_key:
        names = getattr(features.get(label_key[0]), "names", None)
    return None if names is None else class_names(list(names), f"{where}: classes")


def _groups(dataset: MapStyle, name: str, where: str) -> NDArray[np.int64]:
    groups = np.asarray(getattr(dataset, name, None))
    if groups.shape != (len(dataset),):
        raise InputError(
            f"dataset.groups: the training data of {where} must have an attribute {name!r} with one entry "
            f"for each of its {len(dataset):,} samples."
        )
    return np.unique(groups.astype(str), return_inverse=True)[1]
