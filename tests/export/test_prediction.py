import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from aiq_search.errors import InputError
from aiq_search.export import load_bundle, predict


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
    assert "in training they went from 0 to 16" in note


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 1, 9, 8), np.uint8), r"expected an array of N x 1 x 8 x 8, but got \(2, 1, 9, 8\)"),
        (np.zeros((0, 1, 8, 8), np.uint8), "expected an array"),
        (np.zeros((2, 1, 8, 8), np.float32), "expected uint8 as in training"),
        (np.array([None, {}], dtype=object), "not a readable file of plain arrays"),
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
        "x.png": "not a readable image",
        "x.txt": "expected an image",
        "empty": "holds no image",
        "nowhere": "no such file",
    }.items():
        with pytest.raises(InputError, match=reason):
            predict(opened, [tmp_path / name])


def test_an_npz_with_several_arrays_must_name_the_inputs(opened, tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(InputError, match=r"expected an array called inputs, but it has \['a', 'b'\]"):
        predict(opened, [tmp_path / "x.npz"])


def test_the_script_in_the_bundle_needs_only_onnxruntime_and_numpy(exported, example, tmp_path):
    pytest.importorskip("onnxruntime")
    script = (exported / "predict.py").read_text()
    assert len([line for line in script.splitlines() if line.strip()]) <= 18
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


def test_the_script_without_a_file_says_how_it_is_used(exported):
    done = subprocess.run(
        [sys.executable, exported / "predict.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("usage: python predict.py FILE")
