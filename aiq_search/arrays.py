"""Arrays in files of unknown origin: what a header declares is checked before any memory is spent on it.

``numpy.load`` believes a header: it allocates what the shape declares, parses a header of any form, unpacks
members of any size, and raises exceptions that mean nothing to a user. Here every size is known before the
first array is made, no array is larger than its file or than the free memory, and nothing is unpickled.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.errors import InputError, first_line
from aiq_search.memory import available_memory

__all__ = ["ArrayFile", "array_from_bytes", "item_count", "read_array"]

NPY_MAGIC = b"\x93NUMPY"
NPZ_MAGIC = b"PK"
MOST_DIMENSIONS = 8
LONGEST_AXIS = 2**40
MOST_ITEMS = 2**48
_LONGEST_HEADER = 10_000  # characters; numpy's own limit
_KINDS = "biufSU"  # booleans, numbers and text
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # for names of fields in UTF-8, which no plain array has
}
_CHUNK = 1 << 20
_ENCRYPTED = 0x41  # bits of a member's flags
_COPIES = 2  # what is read is converted and split afterwards


def item_count(shape: object) -> int:
    """Number of items of a shape that a file declares.

    Args:
        shape: What the file has in the place of a shape; anything.

    Returns:
        The product of the lengths.

    Raises:
        ValueError: It is not a shape, or larger than any array that this package reads.

    Example:
        >>> item_count((2, 3))
        6
    """
    if not isinstance(shape, Sequence) or isinstance(shape, str | bytes):
        raise ValueError("its shape is not a list of lengths")
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"its shape has {len(shape):,} dimensions, but at most {MOST_DIMENSIONS} are read")
    if not all(type(length) is int and 0 <= length <= LONGEST_AXIS for length in shape):
        raise ValueError(f"its shape has a length that is not a whole number from 0 to {LONGEST_AXIS:,}")
    if math.prod(max(1, length) for length in shape) > MOST_ITEMS:
        raise ValueError(f"its shape {tuple(shape)} has more than {MOST_ITEMS:,} items")
    return math.prod(shape)


@dataclass(frozen=True)
class _Header:
    """What the first bytes of an array declare."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int  # of the first item

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def parse(cls, start: bytes, size: int) -> _Header:
        """The header of an array in the npy format.

        Args:
            start: Its first bytes, the whole header among them.
            size: How many bytes it has.

        Raises:
            ValueError: It is not an array of numbers or text that is as large as it declares.
        """
        file = io.BytesIO(start)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Python, about literals in the header
                shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file, _LONGEST_HEADER)
        except Exception as error:  # numpy evaluates the header as Python, which fails in any way
            raise ValueError(f"not a numpy array ({type(error).__name__}: {first_line(error)})") from None
        if dtype.kind not in _KINDS or not dtype.itemsize:
            raise ValueError(f"it holds {dtype}, but only numbers, booleans and text are read")
        item_count(shape)
        header = cls(tuple(shape), fortran, dtype, file.tell())
        if header.offset + header.nbytes != size:
            raise ValueError(
                f"it declares shape {header.shape}, {header.nbytes:,} bytes, but has "
                f"{max(0, size - header.offset):,}"
            )
        return header

    def array(self, flat: NDArray[Any]) -> NDArray[Any]:
        """The array of these items, in C order and in this machine's byte order."""
        shaped = flat.reshape(self.shape[::-1]).T if self.fortran else flat.reshape(self.shape)
        return np.ascontiguousarray(shaped, self.dtype.newbyteorder("=")).reshape(self.shape)


def array_from_bytes(content: bytes) -> NDArray[Any]:
    """The array that the bytes of an ``.npy`` hold; read-only where it needs no conversion.

    Raises:
        ValueError: They are not exactly one array of numbers or text.
    """
    header = _Header.parse(content[: _LONGEST_HEADER + 16], len(content))
    return header.array(np.frombuffer(content, header.dtype, offset=header.offset))


def read_array(path: Path) -> NDArray[Any]:
    """Read an ``.npy`` file.

    Raises:
        InputError: It is damaged, holds objects, or does not fit the memory.
    """
    try:
        with path.open("rb") as file:
            header = _Header.parse(file.read(_LONGEST_HEADER + 16), path.stat().st_size)
            _check_memory(header.nbytes)
            file.seek(header.offset)
            return header.array(_filled(file, header))
    except (OSError, ValueError, MemoryError) as error:
        raise _unreadable(path, error) from None


class ArrayFile:
    """An ``.npz``: its members are looked at when it is opened, and read when they are asked for.

    Args:
        path: The file, as ``numpy.savez`` or ``numpy.savez_compressed`` writes it.

    Raises:
        InputError: It is not a zip file, or has two members of one name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except Exception as error:  # BadZipFile, and many others where the directory is forged
            raise _unreadable(path, error) from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise InputError(f"{path}: not readable: it has two arrays called {name!r}.")
            self._members[name] = member

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._members)

    def read(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        """Read some of the arrays.

        Raises:
            InputError: One is damaged, encrypted, compressed otherwise than numpy does it, or holds objects;
                or they do not fit the memory.
        """
        where = str(self._path)
        try:
            headers = {}
            for name in names:
                where = f"{self._path}: {name}"
                headers[name] = self._header(self._members[name])
            where = str(self._path)
            _check_memory(sum(header.nbytes for header in headers.values()))
            arrays = {}
            for name, header in headers.items():
                where = f"{self._path}: {name}"
                with self._archive.open(self._members[name]) as file:
                    file.read(header.offset)
                    arrays[name] = header.array(_filled(file, header))
        except Exception as error:  # zipfile and zlib raise many kinds
            raise _unreadable(where, error) from None
        return arrays

    def _header(self, member: zipfile.ZipInfo) -> _Header:
        if member.flag_bits & _ENCRYPTED:
            raise ValueError("it is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"it is compressed by method {member.compress_type}, which numpy does not use")
        with self._archive.open(member) as file:
            return _Header.parse(file.read(_LONGEST_HEADER + 16), member.file_size)


def _filled(file: IO[bytes], header: _Header) -> NDArray[Any]:
    """The items that follow in a file, read piece by piece into the memory that they need."""
    items = np.empty(math.prod(header.shape), header.dtype)
    room = items.view(np.uint8).data
    for start in range(0, len(room), _CHUNK):
        part = room[start : start + _CHUNK]
        piece = file.read(len(part))
        if len(piece) != len(part):
            raise ValueError("it ends too early")
        part[:] = piece
    return items


def _check_memory(size: int) -> None:
    free = available_memory()
    if _COPIES * size > free:
        raise ValueError(
            f"it takes {size:,} bytes, and as many again to work with, but only {free:,} bytes of memory are "
            "free"
        )


def _unreadable(where: object, error: Exception) -> InputError:
    return InputError(f"{where}: not readable: {first_line(error)}.")
