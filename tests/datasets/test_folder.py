import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.datasets.mapped import cached_array
from aiq_search.errors import InputError

# Of what this test wrote itself.
loads = pickle.loads

COLOURS = {"blue": (0, 0, 250), "green": (0, 250, 0), "red": (250, 0, 0)}


def write(folder, number=10, size=(6, 4), suffix=".png"):
    """A folder of pictures, one colour a class."""
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", size, tuple(max(0, c - index) for c in colour)).save(
                folder / name / f"{index}{suffix}"
            )
    return folder


@pytest.fixture
def load(tmp_path):
    def load(folder, **options):
        return load_dataset(DatasetOptions(name=f"{folder}/", **options), tmp_path / "cache")

    return load


def test_classes_are_folders_and_pictures_keep_their_labels(load, tmp_path):
    data = load(write(tmp_path / "flags"), test=6, validation=6)
    assert data.classes == ("blue", "green", "red")
    assert data.input_shape == (3, 4, 6)
    assert data.train.inputs.dtype == np.uint8
    assert [len(data.train), len(data.validation), len(data.test)] == [18, 6, 6]
    for split in (data.train, data.validation, data.test):
        assert np.array_equal(split.inputs.mean(axis=(2, 3)).argmax(axis=1), 2 - split.labels)


def test_the_classes_and_pictures_are_those_of_torchvision(load, tmp_path):
    from torchvision.datasets import ImageFolder

    folder = write(tmp_path / "flags")
    theirs = ImageFolder(folder)
    data = load(folder)
    assert data.classes == tuple(theirs.classes)
    expected = {(np.asarray(image).transpose(2, 0, 1).tobytes(), label) for image, label in theirs}
    ours = {
        (image.tobytes(), int(label))
        for split in (data.train, data.validation, data.test)
        for image, label in zip(split.inputs, split.labels, strict=True)
    }
    assert ours == expected


@pytest.mark.parametrize("validation", [None, "val", "valid", "validation"])
def test_folders_of_splits_are_the_splits(load, tmp_path, validation):
    for name, number in {"train": 10, "test": 5, validation: 3}.items():
        if name:
            write(tmp_path / "flags" / name, number)
    data = load(tmp_path / "flags", validation=6)
    expected = [24, 6, 15] if validation is None else [30, 9, 15]
    assert [len(data.train), len(data.validation), len(data.test)] == expected
    assert np.array_equal(data.test.inputs.mean(axis=(2, 3)).argmax(axis=1), 2 - data.test.labels)


def test_pictures_are_resized_and_made_grey_as_the_file_says(load, tmp_path):
    folder = write(tmp_path / "flags")
    Image.new("RGB", (90, 70), (255, 0, 0)).save(folder / "red" / "large.jpg")
    assert load(folder, size=(5, 7)).input_shape == (3, 5, 7)
    assert load(folder, size=8, channels=1).input_shape == (1, 8, 8)


def test_pictures_are_read_once_and_again_when_one_changes(load, tmp_path, monkeypatch):
    folder = write(tmp_path / "flags")
    first = load(folder)
    with monkeypatch.context() as patch:
        patch.setattr("aiq_search.datasets.folder.read_picture", lambda *a, **k: pytest.fail("read again"))
        # The first picture's size is all that is looked at, where none is given.
        patch.setattr("aiq_search.datasets.folder._size", lambda options, first: (4, 6))
        assert load(folder).digest == first.digest
    Image.new("RGB", (6, 4), (9, 9, 9)).save(folder / "red" / "0.png")
    assert load(folder).digest != first.digest


def test_a_damaged_cache_is_made_again(load, tmp_path):
    folder = write(tmp_path / "flags")
    digest = load(folder).digest
    (file,) = (tmp_path / "cache" / "pictures").glob("*.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert load(folder).digest == digest
    file.with_suffix(".json").unlink()
    assert load(folder).digest == digest


def test_the_splits_are_parts_of_one_mapped_file(load, tmp_path):
    data = load(write(tmp_path / "flags"))
    bases = {id(_base(split.inputs)) for split in (data.train, data.validation, data.test)}
    assert len(bases) == 1
    assert not data.train.inputs.flags.writeable


def test_another_process_of_the_machine_maps_the_same_file(load, tmp_path):
    data = load(write(tmp_path / "flags", size=(60, 40)))
    sent = pickle.dumps(data.for_this_machine(), protocol=5)
    assert len(sent) < 8000 < data.train.inputs.nbytes
    assert loads(sent).digest_now() == data.digest
    received = loads(sent).test.inputs
    assert type(received) is np.ndarray
    assert isinstance(_base_of(received), np.memmap)
    copied = loads(pickle.dumps(data))  # for other machines
    assert copied.digest_now() == data.digest
    assert not isinstance(_base_of(copied.test.inputs), np.memmap)


def test_arrays_that_are_in_no_file_are_copied():
    data = load_dataset(DatasetOptions(name="digits"))
    assert loads(pickle.dumps(data.for_this_machine())).digest_now() == data.digest


def _base_of(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _base(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def test_a_cache_that_cannot_be_made_leaves_nothing(tmp_path):
    def failing(array):
        raise InputError("a damaged picture")

    with pytest.raises(InputError, match="a damaged picture"):
        cached_array(tmp_path / "cache" / "a.npy", failing, (2, 3))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be kept there .* --data-dir"):
        cached_array(tmp_path / "file" / "a.npy", lambda array: None, (2, 3))


def cut(folder):
    path = folder / "red" / "3.png"
    path.write_bytes(path.read_bytes()[:45])


def deep(folder):
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(folder / "red" / "3.png")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, r"red/3\.png: not a readable PNG picture"),
        (deep, r"red/3\.png: expected 8 bits a channel"),
        (lambda f: (f / "red" / "3.png").write_bytes(b"hello"), r"red/3\.png: expected a picture"),
        (lambda f: (f / "red" / "3.png").write_bytes(b""), r"red/3\.png: expected a picture"),
        (
            lambda f: Image.new("RGB", (6, 5)).save(f / "red" / "3.png"),
            r"red/3\.png: expected 6x4 pixels as 0\.png of blue has, but it has 6x5; set dataset\.size",
        ),
        (lambda f: (f / "white").mkdir(), "white: this class has no picture"),
        (lambda f: [shutil.rmtree(f / name) for name in ("red", "blue")], "at least two classes"),
        (lambda f: [shutil.rmtree(f / name) for name in COLOURS], "has no folder"),
        (shutil.rmtree, "is not a folder"),
        (lambda f: (f / "train").mkdir(), "blue: beside train, only"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(load, tmp_path, spoil, said):
    folder = write(tmp_path / "flags")
    spoil(folder)
    with pytest.raises(InputError, match=said) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_a_picture_too_large_to_scale_is_refused(load, tmp_path):
    folder = write(tmp_path / "flags")
    Image.new("1", (10_000, 10_000)).save(folder / "red" / "3.png")
    with pytest.raises(InputError, match="10,000x10,000 pixels, more than are read"):
        load(folder, size=8)


@pytest.mark.parametrize("options", [{"target": "x"}, {"groups": "x"}, {"missing": "fill"}])
def test_fields_of_other_data_are_refused(load, tmp_path, options):
    with pytest.raises(InputError, match=rf"dataset\.{next(iter(options))}: only .* has it"):
        load(write(tmp_path / "flags"), **options)


def test_a_folder_without_its_slash_is_recognised(tmp_path, monkeypatch):
    write(tmp_path / "flags")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="for the folder, write flags/"):
        load_dataset(DatasetOptions(name="flags"))
