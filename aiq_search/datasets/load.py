"""From a data set's name to its splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
from aiq_search.datasets.options import DatasetOptions
from aiq_search.datasets.sources import Arrays, from_digits, from_function, from_npz, from_torchvision
from aiq_search.errors import InputError
from aiq_search.suggest import did_you_mean
from aiq_search.user_code import NO_CODE, CodePolicy, is_reference

__all__ = ["DATASETS", "known_shape", "load_dataset"]

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

DATASETS: tuple[str, ...] = ("digits", *sorted(_TORCHVISION))


def check_name(name: str) -> None:
    """Raise InputError unless ``name`` can name a data set; nothing is loaded."""
    if not (name in DATASETS or name.endswith(".npz") or is_reference(name)):
        raise InputError(
            f"dataset.name: unknown data set {name!r}; {did_you_mean(name, DATASETS)} "
            "Name your own data by the path of an .npz or as package.module:function."
        )


def known_shape(name: str) -> tuple[tuple[int, ...], int] | None:
    """Shape of a sample and number of classes of a data set of ``DATASETS``; None for any other.

    Raises:
        InputError: ``name`` cannot name a data set.
    """
    check_name(name)
    return _SHAPES.get(name)


def _source(name: str, data_dir: Path, code: CodePolicy) -> Callable[[], Arrays]:
    check_name(name)
    if name == "digits":
        return from_digits
    if name in _TORCHVISION:
        return lambda: from_torchvision(_TORCHVISION[name], data_dir)
    if name.endswith(".npz"):
        return lambda: from_npz(Path(name))
    return lambda: from_function(name, code)


def load_dataset(
    options: DatasetOptions, data_dir: Path | None = None, code: CodePolicy = NO_CODE
) -> Dataset:
    """Load a data set into memory and split it.

    The splits depend on the data and ``split_seed`` alone. The validation split is drawn from the
    training data, in proportion to the classes; the test split is the source's own where it has one.

    Args:
        options: Name, sizes of the splits, seed and label noise.
        data_dir: Folder of the data files, torchvision's ``root``; by default ``AIQ_DATA_DIR``, or
            ``~/.cache/aiq_search``.
        code: Which functions ``options.name`` may refer to; none by default.

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
    arrays = _source(options.name, folder, code)()
    # One stream a purpose: asking for label noise must not move the splits.
    test_random, validation_random, noise_random = (
        np.random.default_rng([options.split_seed, stream]) for stream in range(3)
    )
    train, test, validation = arrays.train, arrays.test, arrays.validation
    try:
        if test is None:
            train, test = split_off(train, options.test, test_random, what="test")
        if validation is None:
            train, validation = split_off(train, options.validation, validation_random, what="validation")
    except ValueError as error:
        raise InputError(str(error)) from None
    _check_shapes(options.name, {"train": train, "validation": validation, "test": test})
    if options.label_noise > 0:
        noisy = randomise_labels(train.labels, options.label_noise, len(arrays.classes), noise_random)
        train = Split(train.inputs, noisy)
    try:
        normalization = Normalization.standardise(train.inputs)
    except ValueError as error:
        raise InputError(f"{options.name}: {error}.") from None
    return Dataset(
        name=options.name,
        train=train,
        validation=validation,
        test=test,
        classes=arrays.classes,
        normalization=normalization,
        digest=digest_of({"train": train, "validation": validation, "test": test}),
    )


def _check_shapes(name: str, splits: Mapping[str, Split]) -> None:
    kinds = {split: f"{part.inputs.dtype} {part.inputs.shape[1:]}" for split, part in splits.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{split} has {kind}" for split, kind in kinds.items())
        raise InputError(f"{name}: the samples of all splits must have one dtype and shape, but {listed}.")
