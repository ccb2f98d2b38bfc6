import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiq_search.datasets import DATASETS, DatasetOptions, load_dataset, sources
from aiq_search.datasets.dataset import Normalization, Split, randomise_labels, split_off
from aiq_search.datasets.sources import from_digits, from_torchvision
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


def arrays_without_test():
    return {**own_arrays(), "x_test": None, "y_test": None}


def no_inputs():
    return {"x_train": None, "y_train": [0, 1]}


def ragged_arrays():
    return {"x_train": [[1, 2], [3]], "y_train": [0, 1]}


def failing_arrays():
    raise KeyError("no such column\nmore")


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
    with pytest.raises(ValueError, match="leave one to train on"):
        split_off(split, amount, np.random.default_rng(0), what="test")


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=80),
    st.floats(0.1, 0.6),
    st.integers(0, 5),
)
def test_groups_are_taken_whole_or_the_split_is_refused(samples, amount, seed):
    groups, labels = (np.array(column) for column in zip(*samples, strict=True))
    split = Split(np.arange(len(samples))[:, None], labels, groups)
    try:
        stays, taken = split_off(split, amount, np.random.default_rng(seed), what="test")
    except ValueError as error:
        assert re.search("whole groups|leave one to train on", str(error))  # noqa: PT017 - either is right
        return
    assert not set(stays.groups) & set(taken.groups)
    assert rows(stays) | rows(taken) == rows(split)
    assert len(stays)
    assert len(taken)


def test_groups_are_split_near_to_the_size_and_the_classes_proportions():
    random = np.random.default_rng(0)
    groups = random.integers(200, size=3000)
    labels = (random.random(3000) < 0.1).astype(int)
    split = Split(np.arange(3000)[:, None], labels, groups)
    _, taken = split_off(split, 0.2, random, what="test")
    assert abs(len(taken) - 600) < 20
    assert abs(taken.labels.mean() - 0.1) < 0.01


def test_groups_of_an_npz_are_an_array_of_it(npz):
    x, patient = np.arange(60.0)[:, None], np.repeat(np.arange(15), 4)
    path = npz(x_train=x, y_train=np.arange(60) % 2, patient=patient)
    data = load_dataset(DatasetOptions(name=path, groups="patient", test=12, validation=12))
    seen = [set((split.inputs[:, 0] // 4).tolist()) for split in (data.train, data.validation, data.test)]
    assert sum(map(len, seen)) == 15
    assert len(set.union(*seen)) == 15
    with pytest.raises(InputError, match=r"dataset\.groups: .*has no array 'doctor'"):
        load_dataset(DatasetOptions(name=path, groups="doctor"))
    with pytest.raises(InputError, match="one entry for each of the 60 training samples"):
        load_dataset(
            DatasetOptions(
                name=npz(x_train=x, y_train=np.arange(60) % 2, patient=patient[:9]), groups="patient"
            )
        )


def test_one_group_cannot_be_split(npz):
    path = npz(x_train=TABLE, y_train=TWO, patient=np.zeros(30, int))
    with pytest.raises(InputError, match="in whole groups and leave some: there are 1 groups"):
        load_dataset(DatasetOptions(name=path, groups="patient"))


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
    options = DatasetOptions(name="tests.datasets.test_datasets:arrays_without_test", test=8, validation=8)
    assert len(load_dataset(options, code=CodePolicy.for_running()).test) == 8


TABLE = np.random.default_rng(0).random((30, 2), np.float32)
TWO = np.arange(30) % 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": TABLE}, "expected arrays x_train and y_train, but got 'x'"),
        ({"x_train": TABLE}, "expected arrays x_train and y_train, but got 'x_train'"),
        ({"x_train": TABLE, "y_train": TWO, "x_test": TABLE}, "expected arrays x_test and y_test"),
        ({"x_train": TWO, "y_train": TWO}, "expected shape"),
        ({"x_train": np.zeros((0, 2)), "y_train": np.zeros(0, int)}, "at least one sample"),
        ({"x_train": TABLE * np.nan, "y_train": TWO}, "NaN, infinity"),
        ({"x_train": np.full((30, 2), 1e300), "y_train": TWO}, "beyond float32"),
        ({"x_train": np.full((30, 2), "a"), "y_train": TWO}, "expected numbers"),
        ({"x_train": TABLE, "y_train": TABLE[:, 0]}, r"expected whole numbers or text.*\.astype"),
        ({"x_train": TABLE, "y_train": TWO[:4]}, "one label for each of the 30 samples"),
        ({"x_train": TABLE, "y_train": TWO[:, None]}, "one label for each of the 30 samples"),
        (
            {"x_train": TABLE, "y_train": TWO, "classes": np.array(["a"])},
            "labels must be numbers from 0 to 0",
        ),
        ({"x_train": TABLE, "y_train": TWO - 1, "classes": np.array(["a", "b"])}, "but one is -1"),
        (
            {"x_train": TABLE, "y_train": TWO, "classes": np.array("ab")},
            r"classes must be a list .*shape \(\)",
        ),
        ({"x_train": TABLE, "y_train": TWO, "classes": np.array(["a", "a"])}, "2 classes are named 'a'"),
        ({"x_train": TABLE, "y_train": TWO, "classes": np.array(["a", "\x1b[2J"])}, "printable"),
        ({"x_train": TABLE, "y_train": np.where(TWO, "a", "")}, "an empty label"),
        ({"x_train": TABLE, "y_train": np.where(TWO, "a", "b"), "classes": ["a", "c"]}, "'b' is not one of"),
        ({"x_train": TABLE, "y_train": np.full(30, 7)}, "every sample has the label '7'"),
        (
            {"x_train": TABLE, "y_train": TWO, "x_test": TABLE, "y_test": np.where(TWO, "a", "b")},
            "numbers in one split and text in another",
        ),
        (
            {"x_train": TABLE, "y_train": TWO, "x_test": TABLE[:, :1], "y_test": TWO},
            r"train has float32 \(2,\), validation has float32 \(2,\), test has float32 \(1,\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(npz, arrays, message):
    with pytest.raises(InputError, match=message):
        load_dataset(DatasetOptions(name=npz(**arrays)))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([5, 15, 25]), ("5", "15", "25")),
        (np.array([1, 2, 3]), ("1", "2", "3")),
        (np.array([-1, 0, 1]), ("-1", "0", "1")),
        (np.array([0, 7, 10**9]), ("0", "7", "1000000000")),
        (np.array(["barolo", "grignolino", "barbera"]), ("barbera", "barolo", "grignolino")),
        (np.array([b"b", b"c", b"a"]), ("a", "b", "c")),
        (np.array([True, False, True]), ("False", "True")),
    ],
)
def test_classes_are_named_by_their_labels(npz, labels, classes):
    y = labels[np.arange(30) % 3]
    data = load_dataset(DatasetOptions(name=npz(x_train=TABLE, y_train=y, x_test=TABLE, y_test=y)))
    assert data.classes == classes
    expected = [label.decode() if isinstance(label, bytes) else str(label) for label in y.tolist()]
    assert [classes[number] for number in data.test.labels] == expected


def test_labels_may_be_names_in_the_order_of_the_classes(npz):
    y = np.array(["low", "high"])[TWO]
    data = load_dataset(
        DatasetOptions(name=npz(x_train=TABLE, y_train=y, x_test=TABLE, y_test=y, classes=["low", "high"]))
    )
    assert data.classes == ("low", "high")
    assert data.test.labels.tolist() == TWO.tolist()


@pytest.mark.parametrize("shape", [(30, 7), (30, 2, 64), (30, 1, 8, 8), (30, 3, 4, 5, 6)])
def test_samples_may_have_any_shape(npz, shape):
    x = np.random.default_rng(0).random(shape)
    data = load_dataset(DatasetOptions(name=npz(x_train=x, y_train=TWO)))
    assert data.input_shape == shape[1:]
    assert len(data.normalization.scale) == shape[1]
    assert data.warnings == ()


@pytest.mark.parametrize("shape", [(30, 28, 28, 1), (30, 8, 9, 3)])
def test_images_with_their_channels_last_are_refused_with_what_to_do(npz, shape):
    with pytest.raises(InputError, match=r"channels last.*x\.transpose\(0, 3, 1, 2\)"):
        load_dataset(DatasetOptions(name=npz(x_train=np.zeros(shape, np.uint8), y_train=TWO)))


@pytest.mark.parametrize("shape", [(30, 3, 8, 3), (30, 1, 20, 1), (30, 2, 64, 1)])
def test_narrow_images_with_their_channels_first_are_taken(npz, shape):
    x = np.random.default_rng(0).random(shape)
    assert load_dataset(DatasetOptions(name=npz(x_train=x, y_train=TWO))).input_shape == shape[1:]


def test_grey_images_without_a_channel_are_read_as_signals_with_a_warning(npz):
    x = np.random.default_rng(0).integers(0, 9, (30, 8, 8), np.uint8)
    (warning,) = load_dataset(DatasetOptions(name=npz(x_train=x, y_train=TWO))).warnings
    assert "save grey images as (N, 1, 8, 8)" in warning


def test_rare_and_absent_classes_are_warned_of_with_their_counts(npz):
    x = np.random.default_rng(0).random((110, 3))
    data = load_dataset(DatasetOptions(name=npz(x_train=x, y_train=(np.arange(110) == 3).astype(int))))
    uneven, *absent = data.warnings
    assert "110 samples: 1 of class '1', 109 of class '0'" in uneven
    assert "always answers '0' has an accuracy of 99.1%" in uneven
    assert len(absent) == 2
    assert all("split has no sample of class '1'" in warning for warning in absent)
    description = data.description()
    assert description["warnings"] == list(data.warnings)
    assert np.sum(list(description["class_counts"].values()), axis=0).tolist() == [109, 1]


def test_classes_can_be_numbered_as_a_network_numbers_them(npz):
    data = load_dataset(DatasetOptions(name=npz(x_train=TABLE, y_train=np.array(["low", "high"])[TWO])))
    assert data.classes == ("high", "low")
    renumbered = data.with_classes(("low", "middle", "high"))
    names = [data.classes[number] for number in data.train.labels]
    assert [renumbered.classes[number] for number in renumbered.train.labels] == names
    assert renumbered.digest == renumbered.digest_now() != data.digest
    assert renumbered.with_classes(renumbered.classes) is renumbered
    with pytest.raises(InputError, match="its class 'high' is not one of the network's 2 classes"):
        data.with_classes(("low", "middle"))


def test_even_classes_need_no_warning():
    assert load_dataset(DatasetOptions(name="digits")).warnings == ()


def test_more_labels_than_any_network_has_outputs_are_refused(npz):
    x = np.zeros((100_001, 1), np.uint8)
    with pytest.raises(InputError, match="100,001 classes, but at most 100,000"):
        load_dataset(DatasetOptions(name=npz(x_train=x, y_train=np.arange(100_001))))


def test_values_that_float32_cannot_normalise_are_refused(npz):
    x = TABLE * np.float32(1e-39)
    with pytest.raises(InputError, match=r"channel 0 .* cannot be normalised"):
        load_dataset(DatasetOptions(name=npz(x_train=x, y_train=TWO)))


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x_train=np.array([{"a": 1}], dtype=object), y_train=np.zeros(1, int))
    with pytest.raises(InputError, match=r"data\.npz: x_train: not readable: it holds object"):
        load_dataset(DatasetOptions(name=str(path)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"no zip at all"])
def test_a_damaged_npz_is_named(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"data\.npz: not readable"):
        load_dataset(DatasetOptions(name=str(path)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnits", 'did you mean "mnist"'),
        ("missing.npz", "does not exist"),
        ("no.such:thing", "no module named"),
        ("tests.datasets.test_datasets:no_arrays", "must return a mapping"),
        ("tests.datasets.test_datasets:split_off", "cannot be called without arguments"),
        ("tests.datasets.test_datasets:no_inputs", "expected arrays x_train and y_train, but got 'y_train'"),
        ("tests.datasets.test_datasets:ragged_arrays", "x_train: cannot be made an array"),
        ("tests.datasets.test_datasets:failing_arrays", r"raised KeyError: .*test_datasets\.py, line \d+"),
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
def test_mnist_is_what_torchvision_reads():
    from torchvision.datasets import MNIST as Theirs

    ours = from_torchvision("MNIST", MNIST)
    for part, split in ((Theirs(MNIST, train=True), ours.train), (Theirs(MNIST, train=False), ours.test)):
        assert np.array_equal(split.inputs[:, 0], part.data)
        assert np.array_equal(split.labels, part.targets)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_the_classes_of_idx_files_have_torchvisions_names(name):
    from torchvision import datasets

    assert sources._IDX_CLASSES[name] == tuple(getattr(datasets, name).classes)


def test_digits_are_what_scikit_learn_loads():
    from sklearn.datasets import load_digits

    ours, theirs = from_digits().train, load_digits()
    assert np.array_equal(ours.inputs[:, 0], theirs.images)
    assert np.array_equal(ours.labels, theirs.target)


@pytest.mark.parametrize("shape", [(3000, 3, 4, 4), (1500, 6), (3, 2)])
def test_bytes_are_standardised_as_the_same_numbers_in_floats(shape):
    inputs = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    inputs[:, 0] = 7
    bytes_, floats = Normalization.standardise(inputs), Normalization.standardise(inputs.astype(np.float32))
    assert bytes_.scale == pytest.approx(floats.scale, rel=1e-12)
    assert bytes_.shift == pytest.approx(floats.shift, rel=1e-12)


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
    said = r"could not be downloaded.*four files, packed or not, in .*/FashionMNIST/raw.*--data-dir"
    with pytest.raises(InputError, match=said):
        load_dataset(DatasetOptions(name="fashion_mnist"), tmp_path)
