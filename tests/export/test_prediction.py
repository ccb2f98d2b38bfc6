import io
import json
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from aiq_search.errors import InputError
from aiq_search.export import load_bundle, predict
from tests.export.hostile import archive_of, npy_of


@pytest.fixture(scope="module")
def opened(exported):
    return load_bundle(exported)


@pytest.fixture(scope="module")
def example(exported):
    with np.load(exported / "example_input.npz") as file:
        return {name: file[name] for name in file.files}


def test_the_example_gets_the_probabilities_that_are_recorded(opened, exported, example):
    answers = predict(opened, [exported / "example_input.npz"]).answers
    assert np.allclose([list(a.probabilities.values()) for a in answers], example["probabilities"], atol=1e-6)
    assert [a.label for a in answers] == [str(label) for label in example["logits"].argmax(1)]
    assert answers[3].name.endswith("example_input.npz[3]")


def test_images_and_folders_of_images_are_read_in_order(opened, example, tmp_path):
    for row in (2, 0, 1):
        Image.fromarray(example["inputs"][row, 0]).save(tmp_path / f"{row}.png")
    (tmp_path / "notes.txt").write_text("no image")
    answers = predict(opened, [tmp_path, tmp_path / "0.png"]).answers
    assert [a.label for a in answers] == [str(example["logits"][row].argmax()) for row in (0, 1, 2, 0)]


@pytest.mark.parametrize("shape", [(8, 1, 8, 8), (8, 8, 8)])
def test_arrays_may_leave_out_the_channel(opened, example, tmp_path, shape):
    np.save(tmp_path / "x.npy", example["inputs"].reshape(shape))
    assert len(predict(opened, [tmp_path / "x.npy"]).answers) == 8


def test_inputs_on_another_scale_are_pointed_out(opened, tmp_path):
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "white.png")
    (note,) = predict(opened, [tmp_path / "white.png"]).notes
    assert "range from 255 to 255, but the training data from 0 to 16" in note


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 1, 9, 8), np.uint8), r"expected an array of N x 1 x 8 x 8, but got \(2, 1, 9, 8\)"),
        (np.zeros((0, 1, 8, 8), np.uint8), "expected an array"),
        (np.zeros((2, 1, 8, 8), np.float32), "expected uint8 as in training"),
        (np.array([None, {}], dtype=object), r"x\.npy: not readable: it holds object"),
        (np.zeros((2, 1, 8, 8), "U3"), "expected uint8 as in training"),
        (np.float64(3), "expected an array"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(opened, tmp_path, array, reason):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=reason):
        predict(opened, [tmp_path / "x.npy"])


def test_an_image_of_another_size_is_refused(opened, tmp_path):
    Image.new("L", (28, 28)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="expected 8x8 pixels as in training, but it has 28x28"):
        predict(opened, [tmp_path / "large.png"])


def test_files_that_are_no_images_are_refused(opened, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    (tmp_path / "x.txt").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    for name, reason in {
        "x.png": r"expected a picture \(PNG, JPEG, BMP, GIF, WebP, PGM or PPM\), .* begins with b'no image'",
        "x.txt": "expected a picture",
        "empty": "has no picture",
        "nowhere": "no such file",
    }.items():
        with pytest.raises(InputError, match=reason):
            predict(opened, [tmp_path / name])


def _saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) // 4)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM"])
@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_format_is_known_by_its_first_bytes(opened, tmp_path, form, mode):
    (tmp_path / "picture").write_bytes(_saved(GREY.convert(mode), form))
    assert len(predict(opened, [tmp_path / "picture"]).answers) == 1


@pytest.mark.parametrize("form", ["TIFF", "ICO", "TGA", "PCX", "SGI", "PDF", "EPS", "DDS", "JPEG2000"])
def test_other_formats_are_refused_without_a_word_from_their_decoders(opened, tmp_path, form, capfd):
    (tmp_path / "picture.png").write_bytes(_saved(GREY, form))
    with pytest.raises(InputError, match=r"picture\.png: expected a picture \(PNG, JPEG"):
        predict(opened, [tmp_path / "picture.png"])
    assert capfd.readouterr() == ("", "")


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_with(*chunks):
    png = _saved(GREY, "PNG")
    return png[:33] + b"".join(chunks) + png[33:]


TEXT_BOMB = zlib.compress(b"\0" * 10**8)
BOMBS = {
    "text": _png_with(_chunk(b"zTXt", b"a\0\0" + TEXT_BOMB)),
    "international text": _png_with(_chunk(b"iTXt", b"a\0\1\0\0\0" + TEXT_BOMB)),
    "many texts": _png_with(*[_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10**6))] * 80),
    "profile": _png_with(_chunk(b"iCCP", b"a\0\0" + TEXT_BOMB)),
    "palette": _saved(GREY.convert("P"), "BMP").replace(struct.pack("<I", 256) * 2, b"\xff" * 8),
    "short": b"P5 8 8 255\n" + b"\0" * 63,
    "short text": b"P2 8 8 255\n1 2 3",
    "no size": b"P5 \n",
    "huge": b"P5 100000 100000 255\n",
    "many pixels": _saved(Image.new("1", (16000, 10000)), "PNG"),
    "large": _saved(GREY, "PNG") + b"\0" * 2**23,
    "16 bits": _saved(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000), "PNG"),
    "cut": _saved(GREY, "JPEG")[:200],
    "no RIFF of pictures": b"RIFF\0\0\0\0WAVE" + b"\0" * 40,
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.filterwarnings("error")
def test_a_picture_that_is_damaged_or_a_trap_is_one_sentence(opened, tmp_path, name, capfd):
    (tmp_path / "x.png").write_bytes(BOMBS[name])
    begun = time.process_time()
    with pytest.raises(InputError) as refused:
        predict(opened, [tmp_path / "x.png"])
    assert time.process_time() - begun < 2
    assert str(refused.value).startswith(str(tmp_path / "x.png"))
    assert len(str(refused.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_an_archive_is_read_within_bounds(opened, tmp_path):
    header = npy_of("|u1", f"({10**15}, 1, 8, 8)", b"")
    (tmp_path / "x.npz").write_bytes(archive_of({"inputs.npy": header}))
    with pytest.raises(InputError, match=r"x\.npz: inputs: not readable: its shape"):
        predict(opened, [tmp_path / "x.npz"])


def test_inputs_with_their_channels_last_are_told_what_to_do(exported, tmp_path, opened):
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8, 1), np.uint8))
    with pytest.raises(InputError, match=r"the channels are last: transpose\(0, 3, 1, 2\)"):
        predict(opened, [tmp_path / "x.npy"])


def test_a_bundle_is_opened_by_text_and_shows_itself_in_a_line(exported):
    opened = load_bundle(str(exported))
    assert len(repr(opened)) < 500
    assert len(predict(opened, [str(exported / "example_input.npz")]).answers) == 8


def test_an_npz_with_several_arrays_must_name_the_inputs(opened, tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(InputError, match=r"expected an array called inputs, but it has \['a', 'b'\]"):
        predict(opened, [tmp_path / "x.npz"])


def test_the_script_in_the_bundle_needs_only_onnxruntime_and_numpy(exported, example, tmp_path):
    pytest.importorskip("onnxruntime")
    script = (exported / "predict.py").read_text()
    assert len([line for line in script.splitlines() if line.strip()]) < 30
    block = (
        "import runpy, sys\n"
        "for name in ('torch', 'aiq_search', 'safetensors', 'PIL'): sys.modules[name] = None\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", block, exported / "predict.py", exported / "example_input.npz"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    labels = [line.split("\t")[1] for line in done.stdout.splitlines()]
    classes = json.loads((exported / "preprocessing.json").read_text())["classes"]
    assert labels == [classes[row.argmax()] for row in example["logits"]]


@pytest.mark.parametrize("arguments", [[], ["a.npy", "b.npy"]])
def test_the_script_prints_its_usage_where_it_is_called_wrongly(exported, arguments):
    pytest.importorskip("onnxruntime")
    done = subprocess.run(
        [sys.executable, exported / "predict.py", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "python predict.py example_input.npz" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_script_says_in_a_line_what_it_cannot_read(exported, tmp_path):
    pytest.importorskip("onnxruntime")
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.uint8))
    for name in ("x.npy", "nowhere.npy"):
        command = [sys.executable, exported / "predict.py", tmp_path / name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{tmp_path / name}: ")
        assert "Traceback" not in done.stderr
