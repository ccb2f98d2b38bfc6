"""One picture of unknown origin as an array of bytes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiq_search.errors import InputError, first_line

__all__ = ["PICTURES", "picture_format", "read_picture", "without_warnings"]

# Suffixes that a picture in a folder has.
PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp"})
# First bytes of the formats that are read, and Pillow's name for each. Pillow's other formats run code that
# is seldom used; some of it is C that prints to the terminal, such as TIFF's.
_FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WEBP",
    **{b"P%d" % number: "PPM" for number in range(1, 7)},
}
# Modes of Pillow with 8 bits or fewer a channel, which its conversion keeps.
_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"})
_CHANNELS = {1: "L", 3: "RGB"}
# Bytes that a picture may have beyond its pixels: profiles, previews, comments.
_EXTRAS = 2**22
_BYTES_A_VALUE = 16
# Pixels of the largest picture that is scaled down.
_MOST_PIXELS = 2**26


def picture_format(start: bytes) -> str | None:
    """Pillow's name of the format that a file's first twelve bytes announce; None for one that is not read.

    >>> picture_format(b"BM" + bytes(10)), picture_format(b"II*" + bytes(9))
    ('BMP', None)
    """
    name = next((name for magic, name in _FORMATS.items() if start.startswith(magic)), None)
    return None if name == "WEBP" and start[8:12] != b"WEBP" else name


def read_picture(
    path: Path, channels: int, size: tuple[int, int] | None, *, resize: bool = False
) -> NDArray[np.uint8]:
    """A picture as uint8, (channels, height, width).

    Nothing is unpacked unless the picture's header has the expected size, or one that can be scaled, and
    Pillow's own limits on text and on pixels hold. Pillow gets bytes that were read once, and one format to
    try.

    Args:
        path: The file; its first bytes decide how it is read.
        channels: 1 (grey) or 3 (colour).
        size: Height and width; None for the picture's own.
        resize: Whether a picture of another size is scaled (bilinear, its proportions given up) or refused.

    Raises:
        InputError: The file is damaged, of another format or size, or has more than 8 bits a channel.
    """
    from PIL import Image, UnidentifiedImageError

    most_pixels = _MOST_PIXELS if resize or size is None else size[0] * size[1]
    content = _content(path, _EXTRAS + _BYTES_A_VALUE * channels * most_pixels)
    name = picture_format(content[:12])
    if name is None:
        raise InputError(
            f"{path}: expected a picture (PNG, JPEG, BMP, GIF, WebP, PGM or PPM), but it begins with "
            f"{content[:8]!r}."
        )
    try:
        with Image.open(io.BytesIO(content), formats=[name]) as image:
            _check_size(path, (image.height, image.width), None if resize else size)
            if image.mode not in _MODES:
                raise InputError(
                    f"{path}: expected 8 bits a channel, but it has more (Pillow's mode {image.mode}); "
                    "convert it first, on the scale of the training data."
                )
            picture = image.convert(_CHANNELS[channels])
            if size is not None and picture.size != size[::-1]:
                picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(picture)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a readable {name} picture (its header is damaged).") from None
    except Exception as error:  # each format of Pillow fails in its own ways
        raise InputError(f"{path}: not a readable {name} picture ({first_line(error)}).") from None
    planes = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)


def _content(path: Path, most: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > most:
            raise InputError(
                f"{path}: has {size:,} bytes, but a picture of the expected size has at most {most:,}."
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None


def _check_size(path: Path, given: tuple[int, int], expected: tuple[int, int] | None) -> None:
    """Check a picture's height and width, before its pixels take any memory."""
    if expected is not None and given != expected:
        raise InputError(
            f"{path}: expected {expected[1]}x{expected[0]} pixels as in training, but it has "
            f"{given[1]}x{given[0]}; scale it first."
        )
    if given[0] * given[1] > _MOST_PIXELS:
        raise InputError(f"{path}: has {given[1]:,}x{given[0]:,} pixels, more than are read; scale it first.")


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Keep quiet what Pillow repairs or ignores in a file; for one thread at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
