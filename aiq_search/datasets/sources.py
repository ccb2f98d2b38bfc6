"""Where the arrays come from: scikit-learn, torchvision, an .npz, or the user's own function."""

from __future__ import annotations

import gzip
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.datasets.dataset import Split
from aiq_search.errors import InputError
from aiq_search.user_code import CodePolicy, check_call, describe_error

__all__ = ["Arrays", "from_digits", "from_function", "from_npz", "from_torchvision"]


@dataclass(frozen=True)
class Arrays:
    """What a source gives; splits it does not have are cut from ``train`` later."""

    train: Split
    validation: Split | None = None
    test: Split | None = None
    classes: tuple[str, ...] | None = None


def from_digits() -> Arrays:
    """The 1,797 images of 8x8 pixels, 0 to 16, that scikit-learn ships."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    return Arrays(Split(images, digits.target.astype(np.int64)), classes=tuple("0123456789"))


def from_torchvision(class_name: str, data_dir: Path) -> Arrays:
    """A data set of torchvision, downloaded where it is missing.

    Args:
        class_name: Name of a class in ``torchvision.datasets``.
        data_dir: torchvision's ``root``.

    Returns:
        Its training and test split and its class names.

    Raises:
        InputError: A file is missing and cannot be downloaded, or is damaged, or torchvision does
            not fit torch.
    """
    constructor = getattr(_import_torchvision_datasets(), class_name)
    raw = data_dir / class_name / "raw"
    _check_idx_files(raw)
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
            f"torchvision cannot be imported beside torch {torch.__version__} ({error}): the two must come "
            "from the same release. Reinstall both together: pip install --force-reinstall torch torchvision."
        ) from None
    return datasets


def _download(constructor: Any, class_name: str, data_dir: Path, *, train: bool) -> Any:  # noqa: ANN401
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return constructor(data_dir, train=train, download=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"data set {class_name}: not found or damaged in {data_dir / class_name}, and it could not be "
            f"downloaded ({reason}). Put torchvision's files there, or name the folder that has them with "
            "--data-dir or AIQ_DATA_DIR."
        ) from None


def _check_idx_files(raw: Path) -> None:
    """Check that each idx file is as long as its header says: a cut one is named, not repaired."""
    for path in sorted(raw.glob("*-ubyte")) if raw.is_dir() else ():
        with path.open("rb") as file:
            header = file.read(4)
            dimensions = header[3] if len(header) == 4 else 0
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions).ljust(4 * dimensions, b"\0"))
        expected = 4 + 4 * dimensions + int(np.prod(shape))
        if header[:3] != b"\0\0\x08" or path.stat().st_size != expected:
            raise InputError(
                f"{path}: damaged: expected an idx file of {expected:,} unsigned bytes as its header "
                f"says, but it has {path.stat().st_size:,}. Delete it and download it again."
            )


def _images(part: Any) -> Split:  # noqa: ANN401
    inputs = np.asarray(part.data, dtype=np.uint8)
    inputs = inputs[:, None] if inputs.ndim == 3 else np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    return Split(inputs, np.asarray(part.targets, dtype=np.int64))


def from_npz(path: Path) -> Arrays:
    """Arrays x_train, y_train and, where present, x_validation, y_validation, x_test, y_test, classes.

    Args:
        path: The file, written by ``numpy.savez`` without pickled objects.

    Raises:
        InputError: The file is missing, damaged, or lacks an array.
    """
    if not path.is_file():
        raise InputError(f"dataset.name: {path} does not exist; expected an .npz with x_train and y_train.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, gzip.BadGzipFile, KeyError) as error:
        raise InputError(f"{path}: not a readable .npz of plain arrays ({error}).") from None
    return _named_arrays(arrays, str(path))


def from_function(reference: str, code: CodePolicy) -> Arrays:
    """What the user's function returns: a mapping with the names of ``from_npz``.

    Args:
        reference: ``package.module:function``, called without arguments.
        code: Which functions may be imported.

    Raises:
        InputError: There is no such function, it may not be imported, it raises, or returns something else.
    """
    function = code.load(reference)
    check_call(reference, function, ())
    try:
        arrays = function()
    except InputError:
        raise
    except Exception as error:  # the user's function may raise anything
        raise InputError(f"dataset.name: {reference} raised {describe_error(error)}") from error
    if not isinstance(arrays, Mapping):
        raise InputError(
            f"dataset.name: {reference} must return a mapping with x_train and y_train, "
            f"but gave {type(arrays).__name__}."
        )
    return _named_arrays({name: np.asarray(array) for name, array in arrays.items()}, reference)


def _named_arrays(arrays: Mapping[str, NDArray[Any]], where: str) -> Arrays:
    splits = {}
    for name in ("train", "validation", "test"):
        x, y = arrays.get(f"x_{name}"), arrays.get(f"y_{name}")
        if x is None and y is None and name != "train":
            continue
        if x is None or y is None:
            raise InputError(f"{where}: expected arrays x_{name} and y_{name}, but got {sorted(arrays)}.")
        splits[name] = Split(_checked_inputs(x, f"{where}: x_{name}"), _checked_labels(x, y, where, name))
    classes = arrays.get("classes")
    return Arrays(**splits, classes=None if classes is None else tuple(str(name) for name in classes))


def _checked_inputs(x: NDArray[Any], where: str) -> NDArray[Any]:
    if x.ndim not in (2, 4) or len(x) == 0:
        raise InputError(f"{where}: expected shape (N, F) or (N, C, H, W) with N >= 1, but got {x.shape}.")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind not in "fiub":
        raise InputError(f"{where}: expected numbers, but got dtype {x.dtype}.")
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"{where}: holds NaN or infinity; fill or drop those samples.")
    return x


def _checked_labels(x: NDArray[Any], y: NDArray[Any], where: str, name: str) -> NDArray[np.int64]:
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0:
        raise InputError(
            f"{where}: y_{name} must hold one class number >= 0 for each of the {len(x)} samples, "
            f"but got shape {y.shape} and dtype {y.dtype}."
        )
    return y.astype(np.int64)
