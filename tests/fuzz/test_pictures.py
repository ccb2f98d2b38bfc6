"""Pictures given to ``predict``."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.inputs import read_samples
from tests.fuzz.damage import damaged, outcome

FILES, NIGHTLY = 1000, 50_000

RAW = PreprocessingDocument(
    input_dtype="uint8", input_shape=(1, 8, 8), scale=(1,), shift=(0,), classes=("a", "b"),
    training_range=(0, 16),
)  # fmt: skip
READ = ["PNG", "PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM"]
OTHERS = ["TIFF", "ICO", "TGA", "PCX", "SGI", "DDS", "EPS", "PDF", "MSP", "JPEG2000", "AVIF", "ICNS"]
MODES = ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16", "I", "F"]
SIZES = [(8, 8)] * 8 + [(1, 1), (9, 8), (300, 200), (8, 16000)]
TEXTS = [b"", b"\0" * 10, b"\0" * (2**20 + 1), b"\0" * 30_000_000]
PACKED = {text: zlib.compress(text) for text in TEXTS}


def saved(chance: random.Random) -> tuple[str, bytes]:
    """A picture of some format, size and mode."""
    form = chance.choice(READ * 4 + OTHERS)
    width, height = chance.choice(SIZES)
    pixels = np.random.default_rng(chance.randrange(9)).integers(0, 256, (height, width), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    mode = chance.choice(MODES)
    picture = Image.fromarray(pixels.astype(np.uint16) * 256) if mode == "I;16" else picture.convert(mode)
    buffer = io.BytesIO()
    try:
        picture.save(buffer, form)
    except (OSError, ValueError, KeyError):  # a mode or size that the format does not have, a missing codec
        buffer = io.BytesIO()
        form = "PNG"
        Image.fromarray(pixels).save(buffer, form)
    return form, buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(chance: random.Random, png: bytes) -> bytes:
    """A PNG with more chunks: texts that grow, headers again, animation, random ones."""
    packed = PACKED[chance.choice(TEXTS)]
    kinds = {
        b"zTXt": b"a\0\0" + packed,
        b"iTXt": b"a\0\1\0\0\0" + packed,
        b"iCCP": b"a\0\0" + packed,
        b"tEXt": b"a\0" + b"x" * chance.choice([0, 10, 100_000]),
        b"IHDR": struct.pack(">IIBBBBB", *[chance.choice([0, 8, 2**31 - 1]) for _ in "wh"], 8, 0, 0, 0, 0),
        b"acTL": struct.pack(">II", chance.choice([0, 1, 2**31]), 0),
        b"fcTL": chance.randbytes(26),
        b"PLTE": chance.randbytes(chance.choice([0, 3, 5, 768, 900])),
        b"tRNS": chance.randbytes(chance.choice([0, 1, 2, 6, 300])),
        b"IDAT": packed,
        b"eXIf": chance.randbytes(30),
        chance.choice([b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"aBCD", b"ABCD"]): chance.randbytes(9),
    }
    kind = chance.choice(list(kinds))
    place = chance.choice([33, 33, len(png) - 12])
    return png[:place] + chunk(kind, kinds[kind]) * chance.choice([1, 1, 2, 70, 1000]) + png[place:]


def picture_file(number: int) -> bytes:
    """The file of a number."""
    chance = random.Random(f"pictures {number}")
    form, content = saved(chance)
    if form == "PNG" and chance.random() < 0.5:
        content = with_chunks(chance, content)
    for _ in range(chance.choice([0, 1, 1, 2])):
        content = damaged(chance, content)
    if chance.random() < 0.03:
        numbers = [chance.choice(["8", "0", "-8", "99999", "9" * 30, "x", "#"]) for _ in range(3)]
        content = f"P{chance.randrange(1, 8)} {' '.join(numbers)}\n".encode() + content[:64]
    return content


def run(numbers: range, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes: Counter[str] = Counter()
    path = folder / "picture.png"
    for number in numbers:
        path.write_bytes(picture_file(number))
        capfd.readouterr()  # what Pillow prints where the pictures are made
        outcomes[outcome(number, lambda: read_samples(path, RAW))] += 1
        assert capfd.readouterr() == ("", ""), number
    with capfd.disabled():
        print(dict(outcomes))
    assert outcomes["taken"] > len(numbers) / 20  # neither all nothing nor all well
    assert outcomes["refused"] > len(numbers) / 2


@pytest.mark.filterwarnings("ignore")
def test_every_picture_is_taken_or_refused_in_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(range(FILES), tmp_path, capfd)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")
def test_so_are_many_more_pictures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(range(FILES, NIGHTLY), tmp_path, capfd)
