"""What a study needs of a place for its files, whatever the place is."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self, TypeVar

__all__ = ["Place", "StorageError", "patiently"]

_Result = TypeVar("_Result")

# How long a store or a shared file system may be unreachable, in seconds.
_PATIENCE = 60.0


class StorageError(OSError):
    """The place where the study keeps its files could not be used: no fault of what was written."""


class Place(Protocol):
    """A file or folder. Its text, ``str(place)``, is what ``place_of`` makes it from.

    ``LocalPath`` and ``StoredPath`` are the two kinds. Names and meanings are those of ``pathlib.Path`` as
    far as it has them.
    """

    @property
    def name(self) -> str:
        """The last part."""

    def __truediv__(self, name: str, /) -> Self:
        """The file or folder of a name in this folder."""

    def is_file(self) -> bool:
        """Whether there is such a file."""

    def read_bytes(self) -> bytes:
        """The whole file."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file."""

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the folder."""

    def glob(self, pattern: str, /) -> Iterable[Self]:
        """The folder's files whose names match."""

    def write_whole(self, data: bytes) -> None:
        """Write the file so that it is complete or absent, never half-written. Its folder must exist.

        Raises:
            StorageError: It could not be written.
        """

    def discard(self) -> None:
        """Delete a file that is no longer needed, if it exists and can be deleted; perhaps a little later."""

    def size(self) -> int:
        """Bytes of the file, or of all files below the folder."""

    def remove_tree(self) -> None:
        """Delete the folder with everything in it, if it exists."""

    def free_space(self) -> int | None:
        """Bytes left in the folder; None if there is no limit."""

    def check_reachable(self) -> None:
        """Raise InputError for a store that does not answer, or not as its address says."""

    @property
    def remedy(self) -> str:
        """What to do on a node that cannot use the place."""

    @property
    def filesystem(self) -> Any | None:  # noqa: ANN401 - pyarrow has no types
        """Pyarrow's client of the place; None for a local folder."""

    @property
    def path(self) -> str:
        """The place's path as its file system knows it."""


def patiently(use: Callable[[], _Result]) -> _Result:
    """Use a place, and retry for a minute if it is unreachable; a full disk is not waited for.

    Raises:
        StorageError: It stays unreachable.
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
