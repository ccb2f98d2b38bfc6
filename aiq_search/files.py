"""Where checkpoints and weights lie: a folder, shared by the nodes where there are several, or S3.

A folder is a ``pathlib.Path``. ``StoredPath`` is its counterpart in an object store, with as much of
pathlib's interface as is used here; ``place_of`` makes the one or the other from its text.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from aiq_search.errors import InputError

__all__ = [
    "Place",
    "StorageError",
    "StoredPath",
    "discard",
    "patiently",
    "place_of",
    "remove_tree",
    "shared_place",
    "size_of",
    "write_whole",
]


# How long a store or a shared file system may be away, in seconds.
_PATIENCE = 60.0

_Result = TypeVar("_Result")


class StorageError(OSError):
    """The place where the study keeps its files could not be used: no fault of what was written."""


@cache
def _filesystem(bucket: str, query: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    """The store's client: one a process, for it keeps its connections."""
    from pyarrow.fs import FileSystem  # type: ignore[import-untyped]  # only where there is a store: it takes half a second

    # Delayed opening makes writing one request, not three.
    return FileSystem.from_uri(f"s3://{bucket}?allow_delayed_open=true&{query}".rstrip("&"))[0]


@dataclass(frozen=True)
class StoredPath:
    """A file or folder in an object store.

    Credentials are those that the process finds by itself (``AWS_ACCESS_KEY_ID`` and its like, a
    profile, the machine's role), never part of the address.

    Attributes:
        path: Bucket and name, with slashes between.
        query: What follows the question mark of the address, such as ``endpoint_override=host:port``.
    """

    path: str
    query: str = ""

    def __str__(self) -> str:
        return f"s3://{self.path}" + (f"?{self.query}" if self.query else "")

    def __truediv__(self, name: str) -> StoredPath:
        return StoredPath(f"{self.path}/{name}", self.query)

    @property
    def name(self) -> str:
        """The part behind the last slash."""
        return self.path.rpartition("/")[2]

    @property
    def filesystem(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """The store's client, which is pyarrow's."""
        return _filesystem(self.path.partition("/")[0], self.query)

    def is_file(self) -> bool:
        """Whether there is such a file."""
        return bool(self.filesystem.get_file_info(self.path).is_file)

    def read_bytes(self) -> bytes:
        """The whole file."""
        with self.filesystem.open_input_file(self.path) as file:
            return bytes(file.read())

    def write_bytes(self, data: bytes) -> int:
        """Write the whole file; a store shows it when it is whole, and not before."""
        with self.filesystem.open_output_stream(self.path) as file:
            file.write(data)
        return len(data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file."""
        try:
            self.filesystem.delete_file(self.path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a store has no folders."""

    def glob(self, pattern: str) -> Iterator[StoredPath]:
        """The folder's files whose names fit."""
        for entry in self._entries():
            if entry.is_file and fnmatch.fnmatchcase(entry.base_name, pattern):
                yield self / entry.base_name

    def size(self) -> int:
        """Bytes of the file, or of all files below the folder."""
        entry = self.filesystem.get_file_info(self.path)
        return int(entry.size or 0) if entry.is_file else sum(e.size or 0 for e in self._entries(below=True))

    def remove_tree(self) -> None:
        """Delete all files below the folder."""
        if self._entries():
            self.filesystem.delete_dir(self.path)

    def _entries(self, *, below: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector

        return list(
            self.filesystem.get_file_info(FileSelector(self.path, recursive=below, allow_not_found=True))
        )


Place = Path | StoredPath


def place_of(text: str) -> Place:
    """The place that ``str(place)`` names.

    >>> place_of("s3://bucket/studies?region=eu-west-1") / "a"
    StoredPath(path='bucket/studies/a', query='region=eu-west-1')
    >>> place_of("/shared/studies") / "a"
    PosixPath('/shared/studies/a')
    """
    parts = urlsplit(text)
    if parts.scheme == "s3":
        return StoredPath(f"{parts.netloc}{parts.path}".rstrip("/"), parts.query)
    return Path(parts.path if parts.scheme == "file" else text)


def shared_place(uri: str) -> Place:
    """What the user gave for ``--storage``, checked.

    Raises:
        InputError: It is no absolute path, file:// or s3:// address, or it holds credentials.
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc or any("key" in name or "secret" in name for name, _ in parse_qsl(parts.query)):
        raise InputError(
            "--storage: credentials in the address would be written down with the study: put them into the "
            "environment of every node instead (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
        )
    absolute = parts.scheme in ("", "file") and not parts.netloc and parts.path.startswith("/")
    if not absolute and not (parts.scheme == "s3" and parts.netloc):
        raise InputError(
            f"--storage {uri}: expected s3://bucket/prefix, or an absolute path (file:///path) that every "
            "node reaches."
        )
    return place_of(uri)


def write_whole(place: Place, data: bytes) -> None:
    """Write a file so that it is whole or not there.

    The folder is not made: where the nodes' shared file system is not mounted, that is an error.

    Raises:
        StorageError: It could not be written.
    """
    try:
        if isinstance(place, StoredPath):
            place.write_bytes(data)
        else:
            _write_and_rename(place, data)
    except OSError as error:
        raise StorageError(error.errno, f"{place}: {error.strerror or error}") from error


def _write_and_rename(path: Path, data: bytes) -> None:
    # Not the process's number: that of a process in another container may be the same.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def patiently(use: Callable[[], _Result]) -> _Result:
    """Use a place, and try again for a minute if it is away; a full disk is not waited for.

    Raises:
        StorageError: It stays away.
    """
    deadline, pause = time.monotonic() + _PATIENCE, 0.5
    while True:
        try:
            return use()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) or time.monotonic() > deadline:
                raise StorageError(error.errno, str(error)) from error
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


@cache
def _deleters() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, "delete")


def discard(place: Place) -> None:
    """Delete a file that nobody needs, if it is there and can be deleted; in a store, before long."""
    if isinstance(place, StoredPath):
        _deleters().submit(_discard, place)  # a request takes as long as many a step of the driver
    else:
        _discard(place)


def _discard(place: Place) -> None:
    with suppress(OSError):
        place.unlink(missing_ok=True)


def size_of(place: Place) -> int:
    """Bytes of a file, or of all files below a folder."""
    if isinstance(place, StoredPath):
        return place.size()
    if place.is_dir():
        return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return place.stat().st_size


def remove_tree(place: Place) -> None:
    """Delete a folder with everything in it."""
    if isinstance(place, StoredPath):
        place.remove_tree()
    elif place.exists():
        shutil.rmtree(place)
