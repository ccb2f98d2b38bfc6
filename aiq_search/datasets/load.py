"""From a data set's name to its splits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aiq_search.datasets.dataset import (
    Dataset,
    Normalization,
    Split,
    digest_of,
    randomise_labels,
    split_off,
)
from aiq_search.datasets.encoding import TableEncoding
from aiq_search.datasets.folder import from_folder
from aiq_search.datasets.map_style import from_map_style, map_style_splits
from aiq_search.datasets.options import FIELDS_OF, DatasetOptions, Kind, kind_of
from aiq_search.datasets.sources import (
    Arrays,
    call_function,
    from_digits,
    from_mapping,
    from_npz,
    from_torchvision,
)
from aiq_search.datasets.table import from_table
from aiq_search.errors import InputError
from aiq_search.suggest import did_you_mean
from aiq_search.user_code import NO_CODE, CodePolicy

__all__ = ["DATASETS", "check_options", "known_shape", "load_dataset"]

_TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "mnist": "MNIST",
}

# Shape of a sample and number of classes, so that networks can be checked without loading anything.
_SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "digits": ((1, 8, 8), 10),
    "fashion_mnist": ((1, 28, 28), 10),
    "kmnist": ((1, 28, 28), 10),
    "mnist": ((1, 28, 28), 10),
}

# What the kinds of data are called in messages.
_KINDS: dict[Kind, str] = {
    "table": "a table (.csv, .tsv, .parquet)",
    "arrays": "an .npz",
    "folder": "a folder of pictures",
    "code": "package.module:function",
}

DATASETS: tuple[str, ...] = ("digits", *sorted(_TORCHVISION))


def check_options(options: DatasetOptions) -> None:
    """Raise InputError unless ``options`` can name and describe a data set; nothing is loaded."""
    known_shape(options.name)
    for field in options.given:
        if options.kind not in FIELDS_OF[field]:
            fitting = " or ".join(_KINDS[kind] for kind in FIELDS_OF[field])
            raise InputError(
                f"dataset.{field}: only {fitting} has it, but dataset.name is {options.name!r}; remove it."
            )
    if options.kind == "table" and options.target is None:
        raise InputError(
            f"dataset.target: is required for a table: the column of {options.name} with the classes."
        )


def known_shape(name: str) -> tuple[tuple[int, ...], int] | None:
    """Shape of a sample and number of classes of a data set of ``DATASETS``; None for any other.

    Raises:
        InputError: ``name`` cannot name a data set.
    """
    if kind_of(name) == "named" and name not in DATASETS:
        own = "the path of an .npz, .csv, .parquet or folder/, or as package.module:function"
        if Path(name).is_dir():
            raise InputError(f"dataset.name: {name!r} is no known data set; for the folder, write {name}/.")
        raise InputError(
            f"dataset.name: unknown data set {name!r}; {did_you_mean(name, DATASETS)} Name your own "
            f"data by {own}."
        )
    return _SHAPES.get(name)


def _read(
    options: DatasetOptions, data_dir: Path, code: CodePolicy, encoding: TableEncoding | None
) -> Arrays:
    """What the source of a data set has."""
    check_options(options)
    name = options.name
    if name == "digits":
        return from_digits()
    if name in _TORCHVISION:
        return from_torchvision(_TORCHVISION[name], data_dir)
    if options.kind == "table":
        return from_table(options, encoding)
    if options.kind == "folder":
        return from_folder(options, data_dir)
    if options.kind == "arrays":
        return from_npz(Path(name), options.groups)
    returned = call_function(name, code)
    splits = map_style_splits(returned)
    if splits is not None:
        return from_map_style(splits, name, data_dir, options.groups)
    return from_mapping(returned, name, options.groups)


def load_dataset(
    options: DatasetOptions,
    data_dir: Path | None = None,
    code: CodePolicy = NO_CODE,
    encoding: TableEncoding | None = None,
) -> Dataset:
    """Load a data set into memory and split it.

    The splits depend on the data and ``split_seed`` alone. The validation split is drawn from the
    training data, in proportion to the classes; the test split is the source's own where it has one.

    Args:
        options: Name, sizes of the splits, seed and label noise.
        data_dir: Folder of the data files, torchvision's ``root``; by default ``AIQ_DATA_DIR``, or
            ``~/.cache/aiq_search``.
        code: Which functions ``options.name`` may refer to; none by default.
        encoding: Of a table: how a network takes its rows; by default as its own training split suggests.

    Returns:
        The data set.

    Raises:
        InputError: Unknown name, missing or damaged file, a function that may not be imported or raises, or
            splits that do not fit.

    Example:
        >>> digits = load_dataset(DatasetOptions(name="digits", validation=360, test=360))
        >>> len(digits.train), len(digits.validation), len(digits.test), digits.input_shape
        (1077, 360, 360, (1, 8, 8))
    """
    folder = data_dir or Path(os.environ.get("AIQ_DATA_DIR") or Path.home() / ".cache" / "aiq_search")
    arrays = _read(options, folder, code, encoding)
    splits, encoding = _inputs(arrays, _split(arrays, options))
    _check_shapes(options.name, splits)
    train = splits["train"]
    if options.label_noise > 0:
        random = _random(options, 2)
        noisy = randomise_labels(train.labels, options.label_noise, len(arrays.classes), random)
        splits["train"] = train = Split(train.inputs, noisy)
    try:
        fit = Normalization.standardise if encoding is None else encoding.normalization
        normalization = fit(train.inputs)
    except ValueError as error:
        raise InputError(f"{options.name}: {error}.") from None
    return Dataset(
        name=options.name,
        train=train,
        validation=splits["validation"],
        test=splits["test"],
        classes=arrays.classes,
        normalization=normalization,
        digest=digest_of(splits),
        encoding=encoding,
    )


def _random(options: DatasetOptions, stream: int) -> np.random.Generator:
    """One stream a purpose: asking for label noise must not move the splits."""
    return np.random.default_rng([options.split_seed, stream])


def _split(arrays: Arrays, options: DatasetOptions) -> dict[str, Split]:
    """The three splits; those that the source lacks are taken from its training data."""
    train, validation, test = arrays.train, arrays.validation, arrays.test
    try:
        if test is None:
            train, test = split_off(train, options.test, _random(options, 0), what="test")
        if validation is None:
            train, validation = split_off(train, options.validation, _random(options, 1), what="validation")
    except ValueError as error:
        raise InputError(str(error)) from None
    return {"train": train, "validation": validation, "test": test}


def _inputs(arrays: Arrays, splits: Mapping[str, Split]) -> tuple[dict[str, Split], TableEncoding | None]:
    """The splits with their inputs, and how these were encoded."""
    if arrays.read is None:
        return {name: Split(split.inputs, split.labels) for name, split in splits.items()}, None
    inputs = arrays.read({name: split.inputs for name, split in splits.items()})
    read = {name: Split(inputs.splits[name], split.labels) for name, split in splits.items()}
    return read, inputs.encoding


def _check_shapes(name: str, splits: Mapping[str, Split]) -> None:
    kinds = {split: f"{part.inputs.dtype} {part.inputs.shape[1:]}" for split, part in splits.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{split} has {kind}" for split, kind in kinds.items())
        raise InputError(f"{name}: the samples of all splits must have one dtype and shape, but {listed}.")
