"""A folder of pictures as a data set: a folder for each class, as torchvision's ``ImageFolder`` has them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.datasets.dataset import Split
from aiq_search.datasets.labels import class_names, number_labels
from aiq_search.datasets.mapped import cached_array, parts_of
from aiq_search.datasets.options import DatasetOptions
from aiq_search.datasets.pictures import PICTURES, read_picture, without_warnings
from aiq_search.datasets.progress import with_progress
from aiq_search.datasets.sources import Arrays, Inputs
from aiq_search.errors import InputError

__all__ = ["from_folder"]

# What folders of splits are called; a folder that has one to train on has splits, another has classes.
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
_BATCH = 256
# Threads that read; Pillow unpacks and scales several pictures at once.
_MOST_THREADS = 16


def from_folder(options: DatasetOptions, data_dir: Path) -> Arrays:
    """The pictures of a folder: ``class/picture.png``, or ``train/class/picture.png`` and so on.

    They are read once it is known which split each belongs to, into one file in ``data_dir``, in the order of
    the splits. A search of the same pictures reads that file.

    Args:
        options: The folder, the size and the channels.
        data_dir: Folder of the data files.

    Raises:
        InputError: There is no such folder, a class has no picture, a picture is damaged, or pictures differ
            in size and ``size`` is not given.
    """
    root = Path(options.name)
    if not root.is_dir():
        raise InputError(
            f"dataset.name: {root} is not a folder; expected one with a folder of pictures for each class."
        )
    files = {split: _classes(folder) for split, folder in _split_folders(root).items()}
    paths = [path for classes in files.values() for pictures in classes.values() for path in pictures]
    labels = {
        split: np.repeat(list(classes), [len(pictures) for pictures in classes.values()])
        for split, classes in files.items()
    }
    numbers, names = number_labels(labels, None, str(root))
    class_names(names, str(root))
    positions = parts_of(np.arange(len(paths)), {split: len(array) for split, array in labels.items()})
    splits = {split: Split(positions[split], numbers[split]) for split in files}

    def read(rows: Mapping[str, NDArray[Any]]) -> Inputs:
        ordered = [paths[row] for row in np.concatenate(list(rows.values()))]
        array = _prepared(root, ordered, options, data_dir)
        return Inputs(parts_of(array, {split: len(chosen) for split, chosen in rows.items()}))

    return Arrays(splits["train"], names, splits.get("validation"), splits.get("test"), read=read)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split that there is."""
    folders = _subfolders(root)
    if "train" not in [folder.name for folder in folders]:
        return {"train": root}
    unknown = [folder.name for folder in folders if folder.name not in _SPLITS]
    if unknown:
        raise InputError(
            f"{root / unknown[0]}: beside train, only validation (or val, valid) and test are expected."
        )
    splits: dict[str, Path] = {}
    for folder in sorted(folders, key=lambda folder: list(_SPLITS).index(folder.name)):
        split = _SPLITS[folder.name]
        if split in splits:
            raise InputError(f"{root}: both {splits[split].name} and {folder.name} are there; keep one.")
        splits[split] = folder
    return splits


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each class, in the order of their names.

    Raises:
        InputError: There are no classes, or one has no picture.
    """
    folders = _subfolders(folder)
    if not folders:
        raise InputError(f"{folder}: expected a folder of pictures for each class, but it has no folder.")
    classes = {}
    for each in folders:
        pictures = sorted(_pictures(each))
        if not pictures:
            raise InputError(
                f"{each}: this class has no picture ({', '.join(sorted(PICTURES))}); add some, or remove the "
                "folder."
            )
        classes[each.name] = pictures
    return classes


def _pictures(folder: Path) -> Iterator[Path]:
    """The pictures below a folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            if Path(name).suffix.lower() in PICTURES and not name.startswith("."):
                yield Path(place) / name


def _prepared(
    root: Path, paths: Sequence[Path], options: DatasetOptions, data_dir: Path
) -> NDArray[np.uint8]:
    """All pictures, (N, channels, height, width), from the file that has them or from their own."""
    import PIL

    resize = options.size is not None
    size = _size(options, paths[0])
    stamps = [(str(path.relative_to(root)), (s := path.stat()).st_size, s.st_mtime_ns) for path in paths]
    facts = [str(root.resolve()), size, options.channels, resize, PIL.__version__, stamps]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    shape = (len(paths), options.channels, *size)
    file = data_dir / "pictures" / f"{root.resolve().name}-{key}.npy"

    def make(array: NDArray[Any]) -> None:
        with without_warnings():
            for number in with_progress(range(0, len(paths), _BATCH), f"reading pictures of {root}"):
                batch = paths[number : number + _BATCH]
                array[number : number + len(batch)] = list(pool.map(read, batch))

    def read(path: Path) -> NDArray[np.uint8]:
        try:
            return read_picture(path, options.channels, size, resize=resize)
        except InputError as error:
            raise _with_advice(error, paths[0], resize=resize) from None

    with ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as pool:
        return cached_array(file, make, shape)


def _size(options: DatasetOptions, first: Path) -> tuple[int, int]:
    """Height and width of all pictures: as given, or those of the first."""
    if isinstance(options.size, int):
        return options.size, options.size
    if options.size is not None:
        return options.size
    with without_warnings():
        _, height, width = read_picture(first, options.channels, None).shape
    return height, width


def _with_advice(error: InputError, first: Path, *, resize: bool) -> InputError:
    message = str(error)
    if "pixels as in training" in message:
        message = message.replace(
            "pixels as in training", f"pixels as {first.name} of {first.parent.name} has"
        ).replace("scale it first", "set dataset.size, such as [32, 32], to resize all")
    return InputError(message)
