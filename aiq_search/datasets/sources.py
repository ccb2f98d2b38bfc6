"""Sources of arrays: scikit-learn, torchvision, .npz, or a function; ``load`` has tables and folders, too."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.arrays import ArrayFile
from aiq_search.datasets.dataset import Split
from aiq_search.datasets.encoding import TableEncoding
from aiq_search.datasets.labels import class_names, number_labels, plain_labels
from aiq_search.errors import InputError, first_line
from aiq_search.user_code import CodePolicy, check_call, describe_error

__all__ = ["Arrays", "Inputs", "call_function", "from_digits", "from_mapping", "from_npz", "from_torchvision"]

_SPLITS = ("train", "validation", "test")
# Where scikit-learn keeps the handwritten digits.
_DIGITS = ("datasets", "data", "digits.csv.gz")
# The data sets that torchvision keeps as idx files: the files, and the names of the classes.
_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IDX_CLASSES = {
    "MNIST": (
        "0 - zero",
        "1 - one",
        "2 - two",
        "3 - three",
        "4 - four",
        "5 - five",
        "6 - six",
        "7 - seven",
        "8 - eight",
        "9 - nine",
    ),
    "FashionMNIST": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
# What a source of the user's own may hold.
_NAMES = (*(f"{part}_{split}" for split in _SPLITS for part in "xy"), "classes")
_LISTED = 10
# Pixels a side from which (N, A, B, 3) is taken for images whose channels come last.
_SMALLEST_IMAGE = 4


@dataclass(frozen=True)
class Inputs:
    """What the samples of the splits are.

    Attributes:
        splits: Inputs by the name of the split.
        encoding: How rows of a table became these inputs; None for other data.
    """

    splits: Mapping[str, NDArray[Any]]
    encoding: TableEncoding | None = None


@dataclass(frozen=True)
class Arrays:
    """What a source has; splits that it lacks are taken from ``train`` later.

    Attributes:
        train: Samples to learn from.
        classes: Name of each class.
        validation: Samples to select on, where the source has them apart.
        test: Likewise, for the final numbers.
        read: Gives the inputs, once it is known which samples each split has: the splits' inputs are
            positions of samples, (N,). None where they are the inputs.
    """

    train: Split
    classes: tuple[str, ...]
    validation: Split | None = None
    test: Split | None = None
    read: Callable[[Mapping[str, NDArray[Any]]], Inputs] | None = None


def from_digits() -> Arrays:
    """The 1,797 images of 8x8 pixels, 0 to 16, that scikit-learn ships.

    Its file is read as it is: importing scikit-learn takes longer than a small search needs to train.

    Raises:
        InputError: scikit-learn is not installed, or lacks the file.
    """
    package = find_spec("sklearn")
    folders = [] if package is None else package.submodule_search_locations or []
    files = [file for folder in folders if (file := Path(folder, *_DIGITS)).is_file()]
    if not files:
        raise InputError(
            f"dataset.name: digits is a file of scikit-learn ({'/'.join(_DIGITS)}), which was not found: "
            "pip install --force-reinstall scikit-learn."
        )
    rows = np.loadtxt(files[0], delimiter=",", dtype=np.uint8)  # 64 pixels, then the digit
    images = rows[:, :-1].reshape(-1, 1, 8, 8)
    return Arrays(Split(images, rows[:, -1].astype(np.int64)), classes=tuple("0123456789"))


def from_torchvision(class_name: str, data_dir: Path) -> Arrays:
    """A data set of torchvision, downloaded where it is missing.

    Files that are there and of MNIST's form are read without torchvision, which takes seconds to import.

    Args:
        class_name: Name of a class in ``torchvision.datasets``.
        data_dir: torchvision's ``root``.

    Returns:
        Its training and test split and its class names.

    Raises:
        InputError: A file is missing and cannot be downloaded, or is damaged, or torchvision does
            not fit torch.
    """
    raw = data_dir / class_name / "raw"
    _check_idx_files(raw)
    if class_name in _IDX_CLASSES and all((raw / name).is_file() for name in _IDX_FILES):
        return _from_idx(raw, _IDX_CLASSES[class_name])
    constructor = getattr(_import_torchvision_datasets(), class_name)
    parts = {}
    for train in (True, False):
        try:
            parts[train] = constructor(data_dir, train=train, download=False)
        except Exception:  # torchvision raises RuntimeError, OSError, AssertionError, ValueError, pickle's
            parts[train] = _download(constructor, class_name, data_dir, train=train)
    classes = tuple(str(name) for name in parts[True].classes)
    return Arrays(_images(parts[True]), test=_images(parts[False]), classes=classes)


def _import_torchvision_datasets() -> Any:  # noqa: ANN401 - a module of an untyped package
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        import torch

        raise InputError(
            f"torchvision cannot be imported with torch {torch.__version__} ({first_line(error)}): both must "
            "come from the same release. Reinstall both: pip install --force-reinstall torch torchvision."
        ) from None
    return datasets


def _download(constructor: Any, class_name: str, data_dir: Path, *, train: bool) -> Any:  # noqa: ANN401
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return constructor(data_dir, train=train, download=True)
    except Exception as error:
        files = "torchvision's files there"
        if class_name in _IDX_CLASSES:
            files = f"its four files, packed or not, in {data_dir / class_name / 'raw'}"
        raise InputError(
            f"data set {class_name}: not found or damaged in {data_dir / class_name}, and it could not be "
            f"downloaded ({first_line(error)}). Put {files}, or name another "
            "data folder with --data-dir or AIQ_DATA_DIR."
        ) from None


def _check_idx_files(raw: Path) -> None:
    """Check that each idx file is as long as its header declares: one that was cut off is not repaired."""
    for path in sorted(raw.glob("*-ubyte")) if raw.is_dir() else ():
        with path.open("rb") as file:
            header = file.read(4)
            dimensions = header[3] if len(header) == 4 else 0
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions).ljust(4 * dimensions, b"\0"))
        expected = 4 + 4 * dimensions + math.prod(shape)
        if header[:3] != b"\0\0\x08" or path.stat().st_size != expected:
            raise InputError(
                f"{path}: damaged: expected an idx file of {expected:,} unsigned bytes as its header "
                f"declares, but it has {path.stat().st_size:,}. Delete it and download it again."
            )


def _from_idx(raw: Path, classes: tuple[str, ...]) -> Arrays:
    """The arrays of idx files that have been checked."""
    arrays = []
    for name in _IDX_FILES:
        content = np.fromfile(raw / name, np.uint8)
        dimensions = int(content[3])
        shape = content[4 : 4 + 4 * dimensions].view(">u4")
        arrays.append(content[4 + 4 * dimensions :].reshape(shape))
    train, train_labels, test, test_labels = arrays
    return Arrays(
        Split(train[:, None], train_labels.astype(np.int64)),
        test=Split(test[:, None], test_labels.astype(np.int64)),
        classes=classes,
    )


def _images(part: Any) -> Split:  # noqa: ANN401
    inputs = np.asarray(part.data, dtype=np.uint8)
    inputs = inputs[:, None] if inputs.ndim == 3 else np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    return Split(inputs, np.asarray(part.targets, dtype=np.int64))


def from_npz(path: Path, groups: str | None = None) -> Arrays:
    """Arrays x_train, y_train and, where present, x_validation, y_validation, x_test, y_test, classes.

    Args:
        path: The file, written by ``numpy.savez`` without pickled objects.
        groups: Name of an array with the group of each training sample.

    Raises:
        InputError: The file is missing, damaged, too large for the memory, or lacks an array.
    """
    if not path.is_file():
        raise InputError(f"dataset.name: {path} does not exist; expected an .npz with x_train and y_train.")
    with ArrayFile(path) as file:
        arrays = file.read([name for name in file.names if name in (*_NAMES, groups)])
        _check_names(file.names, str(path))
    return _named_arrays(arrays, str(path), groups)


def call_function(reference: str, code: CodePolicy) -> Any:  # noqa: ANN401 - whatever the user returns
    """What the user's function returns.

    Args:
        reference: ``package.module:function``, called without arguments.
        code: Which functions may be imported.

    Raises:
        InputError: There is no such function, it may not be imported, or it raises.
    """
    function = code.load(reference)
    check_call(reference, function, ())
    try:
        return function()
    except InputError:
        raise
    except Exception as error:  # the user's function may raise anything
        raise InputError(f"dataset.name: {reference} raised {describe_error(error)}") from error


def from_mapping(arrays: object, reference: str, groups: str | None = None) -> Arrays:
    """What a function of the user's returned: a mapping with the names of ``from_npz``.

    Args:
        arrays: What it returned.
        reference: Its name, for messages.
        groups: As in ``from_npz``.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(arrays, Mapping):
        raise InputError(
            f"dataset.name: {reference} must return a mapping with x_train and y_train, or a map-style data "
            f"set (with a length, whose [0] is a sample and its label), but returned {type(arrays).__name__}."
        )
    present = [name for name, array in arrays.items() if array is not None]
    _check_names(present, reference)
    wanted = [name for name in (*_NAMES, groups) if name is not None and name in present]
    named = {name: _as_array(arrays[name], f"{reference}: {name}") for name in wanted}
    return _named_arrays(named, reference, groups)


def _as_array(values: Any, where: str) -> NDArray[Any]:  # noqa: ANN401 - what a user's function returns
    try:
        return np.asarray(values)
    except Exception as error:  # ragged lists, tensors on a GPU
        raise InputError(f"{where}: cannot be made an array ({first_line(error)}).") from None


def _check_names(names: Sequence[object], where: str) -> None:
    """Check that inputs and labels come in pairs, those to train on among them."""
    for split in _SPLITS:
        missing = [name for name in (f"x_{split}", f"y_{split}") if name not in names]
        if missing and (split == "train" or len(missing) == 1):
            listed = ", ".join(sorted(repr(name) for name in names)[:_LISTED]) or "no array"
            raise InputError(f"{where}: expected arrays x_{split} and y_{split}, but got {listed}.")


def _named_arrays(arrays: Mapping[str, NDArray[Any]], where: str, groups: str | None) -> Arrays:
    splits = [split for split in _SPLITS if f"x_{split}" in arrays]
    inputs = {split: _checked_inputs(arrays[f"x_{split}"], f"{where}: x_{split}") for split in splits}
    labels = {split: arrays[f"y_{split}"] for split in splits}
    for split, array in labels.items():
        if array.shape != (len(inputs[split]),):
            raise InputError(
                f"{where}: y_{split} must hold one label for each of the {len(inputs[split]):,} samples, but "
                f"has shape {array.shape}."
            )
    classes = arrays.get("classes")
    names = None
    if classes is not None:
        if classes.ndim != 1:
            raise InputError(f"{where}: classes must be a list of names, but has shape {classes.shape}.")
        names = class_names(plain_labels(classes, f"{where}: classes").tolist(), f"{where}: classes")
    numbers, names = number_labels(labels, names, where)
    made = {split: Split(inputs[split], numbers[split]) for split in splits}
    if groups is not None:
        made["train"] = replace(made["train"], groups=_groups(arrays, groups, len(made["train"]), where))
    return Arrays(made["train"], names, made.get("validation"), made.get("test"))


def _groups(arrays: Mapping[str, NDArray[Any]], name: str, samples: int, where: str) -> NDArray[np.int64]:
    """The group of each training sample, numbered from 0."""
    if name not in arrays:
        raise InputError(f"dataset.groups: {where} has no array {name!r}.")
    if arrays[name].shape != (samples,):
        raise InputError(
            f"dataset.groups: {name!r} of {where} must have one entry for each of the {samples:,} training "
            f"samples, but has shape {arrays[name].shape}."
        )
    return np.unique(plain_labels(arrays[name], f"{where}: {name}"), return_inverse=True)[1]


def _checked_inputs(x: NDArray[Any], where: str) -> NDArray[Any]:
    if x.ndim < 2 or 0 in x.shape:
        raise InputError(
            f"{where}: expected shape (N, …), such as (N, features), (N, channels, length) or (N, channels, "
            f"height, width), with at least one sample, but got {x.shape}."
        )
    if (
        x.ndim == 4
        and x.shape[3] in (1, 3)
        and x.shape[1] not in (1, 3)
        and min(x.shape[1:3]) >= _SMALLEST_IMAGE
    ):
        raise InputError(
            f"{where}: shape {x.shape} looks like images with the channels last, but expected (N, channels, "
            "height, width): save x.transpose(0, 3, 1, 2). If the last axis is the width, swap it with the "
            "height."
        )
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind not in "fiub":
        raise InputError(f"{where}: expected numbers, but got dtype {x.dtype}.")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise InputError(
            f"{where}: holds NaN, infinity, or numbers beyond float32; fill, drop or scale those samples."
        )
    return x
