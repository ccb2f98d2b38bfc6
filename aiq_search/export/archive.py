"""Zip files of unknown origin: every member is checked before any is read."""

from __future__ import annotations

import io
import zipfile

from aiq_search.errors import first_line
from aiq_search.export.errors import BundleError

__all__ = ["read_archive"]


def read_archive(name: str, content: bytes) -> dict[str, bytes]:
    """Read all members of an uncompressed zip file.

    numpy and torch write their archives uncompressed. A compressed member could grow to any size, and two
    members of one name, or names that leave the archive, are read differently by different readers.

    Args:
        name: Name of the file, for the message.
        content: Its bytes.

    Returns:
        The bytes of each member, by name.

    Raises:
        BundleError: The file is no such archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(name, members, len(content))
            return {member.filename: archive.read(member) for member in members}
    except BundleError:
        raise
    except Exception as error:  # BadZipFile, and many others where the directory is forged
        raise BundleError(f"{name}: refused: not a sound zip file ({first_line(error)}).") from None


def _check_members(name: str, members: list[zipfile.ZipInfo], size: int) -> None:
    seen: set[str] = set()
    total = 0
    for member in members:
        path = member.filename
        if path.startswith("/") or "\\" in path or ".." in path.split("/"):
            raise BundleError(f"{name}: refused: its member {path!r} leaves the archive.")
        if path in seen:
            raise BundleError(f"{name}: refused: it has two members called {path!r}.")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise BundleError(f"{name}: refused: its member {path!r} is compressed or encrypted.")
        seen.add(path)
        total += member.file_size
        if total > size:
            raise BundleError(f"{name}: refused: its members declare more bytes than the file has.")
