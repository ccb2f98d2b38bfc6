"""A path in an S3 object store as a place, with as much of pathlib's interface as is used."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from aiq_search.errors import InputError
from aiq_search.places.place import StorageError

__all__ = ["StoredPath", "reason_of"]


@cache
def _filesystem(bucket: str, query: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    """The store's client: one for each process, because it keeps its connections."""
    from pyarrow.fs import FileSystem  # type: ignore[import-untyped]  # only where there is a store: it takes half a second

    # Delayed opening makes writing one request, not three.
    return FileSystem.from_uri(f"s3://{bucket}?allow_delayed_open=true&{query}".rstrip("&"))[0]


@dataclass(frozen=True)
class StoredPath:
    """A file or folder in an object store.

    Credentials are those that the process finds by itself (``AWS_ACCESS_KEY_ID`` and the like, a profile, the
    machine's role), never part of the address.

    Attributes:
        path: Bucket and name, with slashes between.
        query: What follows the question mark of the address, such as ``endpoint_override=host:port``.
    """

    path: str
    query: str = ""

    def __str__(self) -> str:
        return f"s3://{self.path}" + (f"?{self.query}" if self.query else "")

    def __truediv__(self, name: str, /) -> StoredPath:
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

    def write_whole(self, data: bytes) -> None:
        """Write the whole file; a store shows it when it is complete, and not before.

        Raises:
            StorageError: It could not be written.
        """
        try:
            with self.filesystem.open_output_stream(self.path) as file:
                file.write(data)
        except OSError as error:
            raise StorageError(error.errno, f"{self}: {error.strerror or error}") from error

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file."""
        try:
            self.filesystem.delete_file(self.path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def discard(self) -> None:
        """Delete the file before long, if it exists; a request takes as long as many a step of the driver."""
        _deleters().submit(_delete, self)

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a store has no folders."""

    def glob(self, pattern: str, /) -> Iterator[StoredPath]:
        """The folder's files whose names match."""
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

    def free_space(self) -> int | None:
        """None: a store has no limit that could be asked for."""
        return None

    def check_reachable(self) -> None:
        """Raise InputError for a store that does not answer, or not as its address says."""
        try:
            next(self.glob("*"), None)
        except (OSError, ValueError) as error:
            raise InputError(
                f"storage {self} cannot be used ({reason_of(error)}): correct its address, region, endpoint "
                "or credentials."
            ) from None

    @property
    def remedy(self) -> str:
        """What to do on a node that cannot use the store."""
        return "set its address, region and credentials in the environment in which Ray is started there"

    def _entries(self, *, below: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector

        return list(
            self.filesystem.get_file_info(FileSelector(self.path, recursive=below, allow_not_found=True))
        )


@cache
def _deleters() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, "delete")


def _delete(path: StoredPath) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def reason_of(error: Exception) -> str:
    """The first line of what went wrong, without the full stop."""
    reason = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return reason.splitlines()[0].removesuffix(".")
