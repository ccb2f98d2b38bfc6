"""A local path as a place: on this machine's disk, or on a file system that the nodes share."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import PosixPath

from aiq_search.places.place import StorageError

__all__ = ["LocalPath"]


class LocalPath(PosixPath):
    """A ``pathlib`` path with what else a ``Place`` can do."""

    def write_whole(self, data: bytes) -> None:
        """Write the file so that it is complete or absent. Its folder is not made.

        Where the nodes' shared file system is not mounted, that is an error.

        Raises:
            StorageError: It could not be written.
        """
        # Not the process's number: that of a process in another container may be the same.
        temporary = self.with_name(f"{self.name}.{secrets.token_hex(4)}.part")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self)
        except OSError as error:
            raise StorageError(error.errno, f"{self}: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the file, if it exists and can be deleted."""
        with suppress(OSError):
            self.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes of the file, or of all files below the folder."""
        if self.is_dir():
            return sum(path.stat().st_size for path in self.rglob("*") if path.is_file())
        return self.stat().st_size

    def remove_tree(self) -> None:
        """Delete the folder with everything in it, if it exists."""
        if self.exists():
            shutil.rmtree(self)

    def free_space(self) -> int | None:
        """Bytes left on the folder's disk; 0 if there is no such folder."""
        return shutil.disk_usage(self).free if self.is_dir() else 0

    def check_reachable(self) -> None:
        """A folder that is not mounted on this machine may be on others: `StorageProbe` finds out."""

    @property
    def remedy(self) -> str:
        """What to do on a node that cannot use the folder."""
        return (
            "mount the file system that the driver writes to under this path there, or give --storage s3://…"
        )

    @property
    def filesystem(self) -> None:
        """None: pyarrow's own local file system."""

    @property
    def path(self) -> str:
        """The path as text."""
        return str(self)
