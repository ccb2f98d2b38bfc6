"""The files of a bundle as bytes: checked, and read once; written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aiq_search.errors import InputError
from aiq_search.export.errors import BundleError
from aiq_search.memory import available_memory

__all__ = [
    "CHECKSUMS",
    "FILES",
    "check_output",
    "checksums",
    "new_directory",
    "read_files",
]

CHECKSUMS = "SHA256SUMS"
FILES = (
    "MODEL_CARD.md",
    "architecture.json",
    "example_input.npz",
    "metrics.json",
    "model.c",
    "model.h",
    "model.onnx",
    "model.pt2",
    "model.safetensors",
    "model_int8.c",
    "model_int8.h",
    "model_int8.onnx",
    "predict.py",
    "preprocessing.json",
)
REQUIRED = ("architecture.json", "metrics.json", "model.safetensors", "preprocessing.json")
# Bytes that a file may have at most; with weights in it, the limit of a protobuf, and so of an ONNX.
LARGEST_FILE = 2**31
_LARGEST = {
    CHECKSUMS: 2**16,
    "predict.py": 2**16,
    **dict.fromkeys(("MODEL_CARD.md", "architecture.json", "metrics.json", "preprocessing.json"), 2**23),
}
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def read_files(directory: Path) -> dict[str, bytes]:
    """Read a bundle's files, each once, and compare them with its checksums.

    These bytes are used afterwards, not the files: nothing can change between check and use.

    Args:
        directory: The bundle.

    Returns:
        The bytes of every file but the checksums, by name.

    Raises:
        InputError: There is no such directory.
        BundleError: A file is missing, unknown, not a plain file, too large, or its checksum differs.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: expected the directory of a bundle (`aiq export` writes one).")
    present = {entry.name for entry in os.scandir(directory)}
    if CHECKSUMS not in present:
        raise BundleError(f"{directory}: refused: no {CHECKSUMS}; this is not a bundle, or not all of one.")
    listed = _parse_checksums(_read_plain(directory, CHECKSUMS))
    for name in sorted(present - listed.keys() - {CHECKSUMS}):
        raise BundleError(
            f"{name}: refused: not listed in {CHECKSUMS}; remove it, or export the bundle again."
        )
    for name in (*REQUIRED, *listed):
        if name not in listed or name not in present:
            raise BundleError(f"{name}: missing from the bundle; export it again.")
    _check_memory(directory, listed)
    contents = {}
    for name, expected in listed.items():
        contents[name] = _read_plain(directory, name)
        given = hashlib.sha256(contents[name]).hexdigest()
        if given != expected:
            raise BundleError(
                f"{name}: damaged: its SHA-256 is {given}, but {CHECKSUMS} has {expected}; "
                "copy or export the bundle again."
            )
    return contents


def _parse_checksums(content: bytes) -> dict[str, str]:
    listed = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BundleError(f"{CHECKSUMS}: refused: line {number} is not `<64 hex digits>  <name>`.")
        digest, name = match.groups()
        if "/" in name or "\\" in name or name in ("..", "."):
            raise BundleError(f"{CHECKSUMS}: refused: line {number} names {name!r}, outside of the bundle.")
        if name not in FILES:
            raise BundleError(f"{CHECKSUMS}: refused: line {number} names {name!r}, no file of a bundle.")
        if name in listed:
            raise BundleError(f"{CHECKSUMS}: refused: line {number} names {name!r} again.")
        listed[name] = digest
    return listed


def _check_memory(directory: Path, names: Iterable[str]) -> None:
    """Together the files may take half of what is free: they are copied while they are checked."""
    size = sum((directory / name).lstat().st_size for name in names)
    free = available_memory()
    if 2 * size > free:
        raise BundleError(
            f"{directory}: refused: its files have {size:,} bytes, but only {free:,} bytes of memory are "
            "free."
        )


def _read_plain(directory: Path, name: str) -> bytes:
    """The bytes of a regular file; a link, pipe or device is refused without being opened."""
    path = directory / name
    if not stat.S_ISREG(path.lstat().st_mode):
        raise BundleError(f"{name}: refused: expected a plain file, but it is a link, a folder or a device.")
    # The file may be exchanged between the look and the opening: O_NOFOLLOW looks again.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        most = _LARGEST.get(name, LARGEST_FILE)
        if size > most:
            raise BundleError(f"{name}: refused: it has {size:,} bytes, but should have at most {most:,}.")
        return file.read(size)


def checksums(contents: Mapping[str, bytes]) -> bytes:
    """The text of ``SHA256SUMS``, as ``sha256sum --check`` reads it."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(contents.items())]
    return "".join(lines).encode()


def check_output(directory: Path, *, force: bool) -> None:
    """Check that a bundle may be written to a directory.

    Args:
        directory: Where it will be.
        force: Whether a bundle that is there already may be replaced.

    Raises:
        InputError: Something is there that may not be replaced.
    """
    if not directory.exists() and not directory.is_symlink():
        return
    if not force:
        raise InputError(f"{directory} already exists: choose another --output, or replace it with --force.")
    if directory.is_symlink() or not directory.is_dir():
        raise InputError(f"{directory} is not a directory: choose another --output.")
    strangers = sorted({entry.name for entry in os.scandir(directory)} - {*FILES, CHECKSUMS})
    if strangers:
        raise InputError(
            f"{directory} has {strangers[0]!r}, which does not belong to a bundle: --force only replaces "
            "bundles; choose another --output."
        )


@contextmanager
def new_directory(directory: Path, *, force: bool) -> Iterator[Path]:
    """A directory to fill, which gets its name when the block succeeds and is removed when it fails.

    Args:
        directory: The name to take.
        force: Whether a bundle of that name is replaced.

    Yields:
        An empty directory next to the future one (renaming works only within a file system).

    Raises:
        InputError: Something else is there.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would follow a link
    check_output(directory, force=force)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()  # inside the scratch folder, for the user's own permissions instead of 0700
        yield fresh
        check_output(directory, force=force)  # again: the export took a while
        if directory.exists():
            directory.rename(Path(scratch) / "old")
        try:
            fresh.rename(directory)
        except OSError:
            old = Path(scratch) / "old"
            if old.exists():
                old.rename(directory)
            raise
        shutil.rmtree(Path(scratch) / "old", ignore_errors=True)
