"""``.npz`` and ``.npy`` files, as data of a search and as inputs of ``predict``."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.inputs import read_samples
from tests.fuzz.damage import damaged, outcome

FILES, NIGHTLY = 400, 20_000

RAW = PreprocessingDocument(
    input_dtype="float32", input_shape=(3,), scale=(1,) * 3, shift=(0,) * 3, classes=("a", "b"),
    training_range=(0, 1),
)  # fmt: skip
NAMES = [
    "x_train",
    "y_train",
    "x_validation",
    "y_validation",
    "x_test",
    "y_test",
    "classes",
    "inputs",
    "x",
    "ä",
]
LENGTHS = [
    "0",
    "1",
    "3",
    "-1",
    "30",
    "True",
    "1.5",
    "None",
    "10**9",
    str(2**40),
    str(10**15),
    str(10**22),
    "9" * 5000,
]
DESCRS = [
    "'<f4'", "'>f8'", "'|u1'", "'<i8'", "'<U5'", "'|S3'", "'|O'", "'<M8[s]'", "'<c16'", "'|b1'", "'<f2'",
    "'|V9'", "'<U0'", "'<U999999999'", "'<f3'", "''", "None", "7", "[('a', '<f4')]", "{'a': 1}",
    "[('a', '<f4', (10**9,))]", "(" * 90 + ")" * 90, "'\\x00'",
]  # fmt: skip
HEADERS = [
    "{[1]: 2}", "{'shape': (1,)}", "", "{", "}" * 50, "[" * 9000, "-" * 9000, "'''", "\\N{x}",
    "{'descr': '<f4'," * 900, "__import__('os').getcwd()", "{'a': " * 60 + "1" + "}" * 60,
    "\x00" * 100, "1" * 9000, "'\\d'",
]  # fmt: skip


def regular(name: str) -> np.ndarray:
    """An array as a data set has it."""
    if name == "classes":
        return np.array(["a", "b"])
    return np.arange(30) % 2 if name.startswith("y") else np.random.default_rng(0).random((30, 3))


def irregular(chance: random.Random, name: str) -> np.ndarray:
    """An array of a kind, shape or length that users bring, fit or not."""
    if name == "classes":
        return chance.choice([np.array("ab"), np.arange(2), np.zeros((2, 2)), np.array(["", "\x1b"])])
    rows = chance.choice([30, 30, 30, 30, 1, 0, 31])
    if name.startswith("y"):
        number = np.arange(rows)
        return chance.choice([
            number % 2, number % 3 * 10**9, number % 2 == 0, number * 0 + 1, number / 7, -number,
            np.array(["a", "b", "c"])[number % 3], np.array([b"\xff", b"a"])[number % 2],
            number.astype("u8") + 2**63, np.zeros((rows, 1)), np.float64(1),
        ])  # fmt: skip
    shape = chance.choice([(3,)] * 4 + [(), (2,), (0,), (2, 4), (1, 4, 4), (5, 5, 3), (1, 1, 1, 1)])
    x = np.random.default_rng(chance.randrange(99)).random((rows, *shape))
    return chance.choice([
        x, x.astype("f4"), (x * 255).astype("u1"), x.astype(">f4"), x.astype("f2"), np.asfortranarray(x),
        x > 0.5, x * np.nan, x * 1e300, x * 1e-42, x.astype("U4"), x + 1j,
    ])  # fmt: skip


def npy(chance: random.Random, name: str, wild: float) -> bytes:
    """An array in the npy format; how wild it is decides how seldom it is a regular one."""
    buffer = io.BytesIO()
    np.save(buffer, irregular(chance, name) if chance.random() < wild else regular(name))
    content = buffer.getvalue()
    if chance.random() > wild / 2:
        return content
    match chance.randrange(3):
        case 0:
            shape = "".join(chance.choice(LENGTHS) + "," for _ in range(chance.choice([0, 1, 1, 2, 3, 70])))
            order = chance.choice(["True", "False", "False", "None", "7"])
            text = f"{{'descr': {chance.choice(DESCRS)}, 'fortran_order': {order}, 'shape': ({shape}), }}"
        case 1:
            text = chance.choice(HEADERS)
        case _:
            return damaged(chance, content)
    header = text.encode("latin1", "replace")
    version = chance.choice([1, 1, 1, 2, 3, 9])
    length = chance.choice([len(header)] * 6 + [0, 60_000, 2**31 - 1])
    packed = struct.pack("<H", length % 65536) if version == 1 else struct.pack("<I", length)
    return b"\x93NUMPY" + bytes([version, 0]) + packed + header + content[-chance.randrange(1, 200) :]


def npz(chance: random.Random, wild: float) -> bytes:
    """An archive of some arrays; its directory may be forged."""
    names = NAMES[:2] + chance.sample(NAMES[2:], chance.choice([0, 0, 1, 2, 5]))
    if chance.random() < wild / 4:
        names = chance.choice(
            [[], ["inputs"], ["a"], ["x_train"], ["x_train", "x_train"], ["../x", "y_train"]]
        )
    buffer = io.BytesIO()
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 5 + [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(buffer, "w", chance.choice(methods)) as archive:
        for name in names:
            archive.writestr(f"{name}{chance.choice(['.npy'] * 9 + [''])}", npy(chance, name, wild))
    content = bytearray(buffer.getvalue())
    entries = [place for place in range(len(content) - 46) if content[place : place + 4] == b"PK\1\2"]
    if entries and chance.random() < wild:
        entry = chance.choice(entries)
        offset, form = chance.choice(
            [(8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (30, "H"), (42, "I")]
        )
        value = chance.choice(
            [0, 1, 8, 12, 14, 93, 99, 1000, 65535, *([2**31, 2**32 - 1] if form == "I" else [])]
        )
        struct.pack_into("<" + form, content, entry + offset, value)
    return bytes(content)


def array_file(number: int) -> bytes:
    """The file of a number."""
    chance = random.Random(f"arrays {number}")
    wild = chance.choice([0.05, 0.2, 0.5])
    content = npy(chance, "inputs", wild) if chance.random() < 0.2 else npz(chance, wild)
    return damaged(chance, content) if chance.random() < wild / 2 else content


def run(numbers: range, folder: Path) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    path = folder / "data.npz"
    for number in numbers:
        path.write_bytes(array_file(number))
        outcomes[
            "data", outcome(number, lambda: load_dataset(DatasetOptions(name=str(path))).description())
        ] += 1
        outcomes["predict", outcome(number, lambda: read_samples(path, RAW))] += 1
    print(dict(outcomes))
    for kind in ("data", "predict"):  # neither all nothing nor all well
        assert outcomes[kind, "taken"] > len(numbers) / 50
        assert outcomes[kind, "refused"] > len(numbers) / 2


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_every_file_of_arrays_is_taken_or_refused_in_a_sentence(tmp_path: Path) -> None:
    run(range(FILES), tmp_path)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_so_are_many_more_files_of_arrays(tmp_path: Path) -> None:
    run(range(FILES, NIGHTLY), tmp_path)
