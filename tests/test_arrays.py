"""Arrays of unknown origin: read as numpy reads them, or refused before memory is spent on them."""

import io
import resource
import struct
import zipfile

import numpy as np
import pytest

from aiq_search import arrays
from aiq_search.arrays import ArrayFile, array_from_bytes, item_count, read_array
from aiq_search.errors import InputError

GOOD = [
    np.arange(12, dtype="<f4").reshape(3, 4),
    np.arange(12, dtype=">i2").reshape(3, 4),
    np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    np.array(["a", "longer", ""]),
    np.array([b"ab", b"c"]),
    np.array([True, False]),
    np.zeros((0, 5), np.uint8),
    np.float64(3.5),
    np.arange(1 << 18, dtype=np.float16),
]


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def with_header(text, data=b"", version=(1, 0)):
    header = text.encode("latin1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + data


def same(one, other):
    return one.dtype == other.dtype.newbyteorder("=") and one.shape == other.shape and (one == other).all()


@pytest.mark.parametrize("array", GOOD, ids=lambda array: f"{array.dtype}{array.shape}")
def test_an_array_is_read_as_numpy_reads_it(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array=array, other=np.zeros(3))
    np.savez_compressed(tmp_path / "b.npz", array=array)
    assert same(read_array(tmp_path / "a.npy"), array)
    assert same(array_from_bytes((tmp_path / "a.npy").read_bytes()), array)
    for name in ("a.npz", "b.npz"):
        with ArrayFile(tmp_path / name) as file:
            assert file.names[0] == "array"
            assert same(file.read(["array"])["array"], array)


HEADERS = [
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (10**15,)}", "not a numpy array"),
    (f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**15},)}}", "whole number from 0 to"),
    (f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**22},)}}", "whole number from 0 to"),
    (f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 5000},)}}", "not a numpy array"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "whole number from 0 to"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", "whole number from 0 to"),
    (f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {2**40}, {2**40})}}", "more than"),
    (f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * 60})}}", "60 dimensions"),
    ("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,)}", "it holds <U0"),
    ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "it holds object"),
    ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "only numbers"),
    ("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}", "only numbers"),
    (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
        "declares shape \\(3,\\), 12 bytes, but has 0",
    ),
    ("{[1]: 2}", "not a numpy array"),
    ("{'a': '''", "not a numpy array"),
    ("(" * 9000, "not a numpy array"),
    ("-" * 9000 + "1", "not a numpy array"),
    ("{" + " " * 20_000 + "}", "not a numpy array"),
    ("", "not a numpy array"),
]


@pytest.mark.parametrize(("text", "reason"), HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)])
def test_a_header_that_cannot_be_true_is_refused(tmp_path, text, reason, version):
    content = with_header(text, version=version)
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    reason = reason if version[0] < 4 else "not a numpy array"
    with pytest.raises(InputError, match=rf"a\.npy: not readable: .*{reason}"):
        read_array(tmp_path / "a.npy")
    with ArrayFile(tmp_path / "a.npz") as file, pytest.raises(InputError, match=rf"a\.npz: x: .*{reason}"):
        file.read(["x"])


def test_an_array_larger_than_the_free_memory_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "available_memory", lambda: 1000)
    np.save(tmp_path / "a.npy", np.zeros(501, np.uint8))
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(400, np.uint8), b=np.zeros(400, np.uint8))
    with pytest.raises(InputError, match=r"takes 501 bytes, .* only 1,000 bytes of memory are free"):
        read_array(tmp_path / "a.npy")
    with ArrayFile(tmp_path / "a.npz") as file:
        assert file.read(["a"])["a"].nbytes == 400
        with pytest.raises(InputError, match="takes 800 bytes"):
            file.read(["a", "b"])


def test_a_file_that_is_mostly_a_hole_takes_no_memory(tmp_path):
    path = tmp_path / "hole.npy"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**40 - 200},)}}"
    content = with_header(header)
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(len(content) + 2**40 - 200)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="bytes of memory are free"):
        read_array(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def forged(tmp_path, compression, edit):
    """An archive of one array whose directory is edited: bytes, place of the directory's entry."""
    path = tmp_path / "forged.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", npy(np.zeros(5000, np.uint8)))
    content = bytearray(path.read_bytes())
    edit(content, content.index(b"PK\1\2"))
    path.write_bytes(content)
    return path


def set_size(size):
    return lambda content, entry: content.__setitem__(slice(entry + 24, entry + 28), struct.pack("<I", size))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (set_size(100), "CRC"),
        (set_size(2**31), "declares shape"),
        (lambda c, e: c.__setitem__(e + 8, c[e + 8] | 1), "encrypted"),
        (lambda c, e: c.__setitem__(e + 10, 99), "compressed by method 99"),
        (lambda c, e: c.__setitem__(e + 10, zipfile.ZIP_BZIP2), "compressed by method 12"),
        (lambda c, e: c.__setitem__(e + 16, c[e + 16] ^ 1), "CRC"),
        (lambda c, e: c.__setitem__(slice(e + 42, e + 46), b"\xff\xff\xff\x7f"), "header"),
    ],
    ids=["smaller", "larger", "encrypted", "unknown", "bzip2", "checksum", "elsewhere"],
)
def test_a_forged_directory_is_refused(tmp_path, compression, edit, reason):
    path = forged(tmp_path, compression, edit)
    with (
        ArrayFile(path) as file,
        pytest.raises(InputError, match=rf"forged\.npz: x: not readable: .*{reason}"),
    ):
        file.read(["x"])


def test_a_member_that_unpacks_to_more_than_it_declares_is_refused(tmp_path):
    """The sizes agree with the header of the array; the packed bytes go on."""
    path = tmp_path / "more.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(np.zeros(5000, np.uint8)) + b"\0" * 50_000_000)
    content = bytearray(path.read_bytes())
    set_size(len(npy(np.zeros(5000, np.uint8))))(content, content.index(b"PK\1\2"))
    path.write_bytes(content)
    with ArrayFile(path) as file, pytest.raises(InputError, match=r"x: not readable: .*CRC"):
        file.read(["x"])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", npy(np.zeros(2)))
        archive.writestr("x.npy", npy(np.ones(2)))
    with pytest.raises(InputError, match="two arrays called 'x'"):
        ArrayFile(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 damaged", b"no zip at all", b"PK\5\6" + b"\xff" * 18])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz: not readable"):
        ArrayFile(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [[2, 3], (), (0, 2**40), (1,) * 8])
def test_items_are_counted(shape):
    assert item_count(shape) == int(np.prod(shape, dtype=object))


@pytest.mark.parametrize("shape", [None, "12", {"a": 1}, [1.0], [True], [-1], [int("9" * 4000)], [1] * 9])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(ValueError, match="its shape"):
        item_count(shape)
