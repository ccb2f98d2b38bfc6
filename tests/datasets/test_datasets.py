import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from aiq_search.datasets import DATASETS, DatasetOptions, load_dataset
from aiq_search.datasets.dataset import Split, randomise_labels, split_off
from aiq_search.errors import InputError
from aiq_search.user_code import CodePolicy

MNIST = Path(os.environ.get("AIQ_DATA_DIR", "/nowhere"))
needs_mnist = pytest.mark.skipif(
    not (MNIST / "MNIST" / "raw").is_dir(), reason="real MNIST is not in AIQ_DATA_DIR"
)


def own_arrays():
    return {"x_train": np.eye(40, dtype=np.float32), "y_train": np.arange(40) % 2}


def no_arrays():
    return [1, 2, 3]


def broken():
    return {}["table"]


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


def rows(split):
    return {bytes(row.tobytes()) for row in split.inputs}


def test_the_splits_of_digits_share_no_sample_and_lose_none():
    data = load_dataset(DatasetOptions(name="digits", validation=360, test=360))
    assert [len(data.train), len(data.validation), len(data.test)] == [1077, 360, 360]
    assert len(rows(data.train) | rows(data.validation) | rows(data.test)) == 1797
    assert data.train.inputs.dtype == np.uint8
    assert data.input_shape == (1, 8, 8)


def test_the_splits_keep_the_proportion_of_the_classes():
    data = load_dataset(DatasetOptions(name="digits", validation=360, test=360))
    counts = np.bincount(data.validation.labels)
    assert counts.max() - counts.min() <= 2


def test_the_seed_fixes_the_splits_and_another_moves_them():
    options = DatasetOptions(name="digits")
    digests = [
        load_dataset(o).digest for o in (options, options, DatasetOptions(name="digits", split_seed=1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_label_noise_changes_training_labels_alone():
    clean = load_dataset(DatasetOptions(name="digits"))
    noisy = load_dataset(DatasetOptions(name="digits", label_noise=0.75))
    changed = (clean.train.labels != noisy.train.labels).mean()
    assert 0.75 * 0.9 - 0.05 < changed < 0.75 * 0.9 + 0.05  # a tenth of the new labels are the old ones
    assert np.array_equal(clean.train.inputs, noisy.train.inputs)
    assert np.array_equal(clean.validation.labels, noisy.validation.labels)
    assert np.array_equal(clean.test.labels, noisy.test.labels)
    assert clean.digest != noisy.digest


def test_randomised_labels_are_exactly_as_many_as_asked_for():
    labels = np.full(1000, 7)
    noisy = randomise_labels(labels, 0.3, 5, np.random.default_rng(0))
    assert (noisy != 7).sum() == 300
    assert set(noisy[noisy != 7]) == {0, 1, 2, 3, 4}


def test_normalised_training_data_have_mean_zero_and_deviation_one():
    data = load_dataset(DatasetOptions(name="digits"))
    scaled = data.train.inputs * data.normalization.scale[0] + data.normalization.shift[0]
    assert abs(scaled.mean()) < 1e-9
    assert abs(scaled.std() - 1) < 1e-9


@pytest.mark.parametrize("amount", [1, 7, 0.5, 99])
def test_splitting_off_takes_exactly_the_amount(amount):
    split = Split(np.arange(100, dtype=np.float32)[:, None], np.arange(100) % 3)
    stays, taken = split_off(split, amount, np.random.default_rng(0), what="test")
    assert len(taken) == (amount if isinstance(amount, int) else 50)
    assert rows(stays) | rows(taken) == rows(split)


@pytest.mark.parametrize("amount", [100, 1000, 0.001])
def test_a_split_that_leaves_nothing_is_refused(amount):
    split = Split(np.zeros((100, 1), np.float32), np.zeros(100, np.int64))
    with pytest.raises(ValueError, match="must leave samples to train on"):
        split_off(split, amount, np.random.default_rng(0), what="test")


def test_an_npz_with_all_splits_is_taken_as_it_is(npz):
    x, y = np.random.default_rng(0).random((30, 4)), np.arange(30) % 3
    path = npz(
        x_train=x, y_train=y, x_validation=x[:9], y_validation=y[:9], x_test=x[:6], y_test=y[:6],
        classes=np.array(["a", "b", "c"]),
    )  # fmt: skip
    data = load_dataset(DatasetOptions(name=path))
    assert [len(data.train), len(data.validation), len(data.test)] == [30, 9, 6]
    assert data.classes == ("a", "b", "c")
    assert data.train.inputs.dtype == np.float32


def test_a_function_may_bring_the_arrays():
    options = DatasetOptions(name="tests.datasets.test_datasets:own_arrays", test=8, validation=8)
    data = load_dataset(options, code=CodePolicy.for_running())
    assert [len(data.train), len(data.validation), len(data.test)] == [24, 8, 8]
    assert data.classes == ("0", "1")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((3, 2))}, "expected arrays x_train and y_train, but got"),
        ({"x_train": np.zeros((3, 2, 2)), "y_train": np.zeros(3, int)}, "expected shape"),
        ({"x_train": np.full((3, 2), np.nan), "y_train": np.zeros(3, int)}, "NaN or infinity"),
        ({"x_train": np.array([["a"]]), "y_train": np.zeros(1, int)}, "expected numbers"),
        ({"x_train": np.zeros((3, 2)), "y_train": np.zeros(3)}, "one class number"),
        ({"x_train": np.zeros((3, 2)), "y_train": np.zeros(4, int)}, "one class number"),
        ({"x_train": np.zeros((30, 2)), "y_train": np.full(30, 5), "classes": np.array(["a"])}, "1 classes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(npz, arrays, said):
    with pytest.raises(InputError, match=said):
        load_dataset(DatasetOptions(name=npz(**arrays)))


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x_train=np.array([{"a": 1}], dtype=object), y_train=np.zeros(1, int))
    with pytest.raises(InputError, match=r"not a readable \.npz"):
        load_dataset(DatasetOptions(name=str(path)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"no zip at all"])
def test_a_damaged_npz_is_named(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"data\.npz: not a readable"):
        load_dataset(DatasetOptions(name=str(path)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnits", 'did you mean "mnist"'),
        ("missing.npz", "does not exist"),
        ("no.such:thing", "no module named"),
        ("tests.datasets.test_datasets:no_arrays", "must return a mapping"),
        (
            "tests.datasets.test_datasets:broken",
            r"raised KeyError: 'table' \(tests/datasets/test_datasets.py",
        ),
        ("tests.datasets.test_datasets:split_off", "cannot be called without arguments"),
    ],
)
def test_a_wrong_name_is_one_sentence(name, said):
    with pytest.raises(InputError, match=said):
        load_dataset(DatasetOptions(name=name), code=CodePolicy.for_running())


def test_no_function_is_imported_unless_that_is_allowed():
    with pytest.raises(InputError, match="is not imported here"):
        load_dataset(DatasetOptions(name="tests.datasets.test_datasets:own_arrays"))


def test_every_named_data_set_has_a_known_shape():
    from aiq_search.datasets import known_shape

    assert all(known_shape(name) is not None for name in DATASETS)


@needs_mnist
def test_mnist_is_read_from_the_data_folder():
    data = load_dataset(DatasetOptions(name="mnist", validation=10000), MNIST)
    assert [len(data.train), len(data.validation), len(data.test)] == [50000, 10000, 10000]
    assert data.input_shape == (1, 28, 28)


@needs_mnist
def test_a_cut_file_is_named_with_what_to_do(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(MNIST / "MNIST" / "raw", raw)
    path = raw / "train-images-idx3-ubyte"
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte: damaged: expected .* Delete it"):
        load_dataset(DatasetOptions(name="mnist"), tmp_path)


def test_a_missing_data_set_without_internet_says_what_to_do(tmp_path, monkeypatch):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    said = r"FashionMNIST.*could not be downloaded.*--data-dir or AIQ_DATA_DIR"
    with pytest.raises(InputError, match=said):
        load_dataset(DatasetOptions(name="fashion_mnist"), tmp_path)
