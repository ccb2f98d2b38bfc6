"""Map-style data sets that a function of the user's returns."""

import numpy as np
import pytest
import torch
from PIL import Image

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.datasets.dataset import Normalization
from aiq_search.datasets.map_style import map_style_splits
from aiq_search.errors import InputError
from aiq_search.user_code import CodePolicy

HERE = "tests.datasets.test_map_style"


class Signals(torch.utils.data.Dataset):
    """Pulses of two channels: rising ones and falling ones; it counts how often a sample was asked for."""

    def __init__(self, number=40, spoilt=None):
        self.number, self.spoilt, self.asked = number, spoilt, []
        self.patient = np.repeat(np.arange(number // 4), 4)

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        self.asked.append(index)
        if index == 5 and self.spoilt is not None:
            return self.spoilt() if callable(self.spoilt) else self.spoilt
        label = index % 2
        slope = torch.linspace(0, 1, 16) if label else torch.linspace(1, 0, 16)
        return torch.stack([slope, slope * 0 + index]), ("falling", "rising")[label]


class Rows:
    """As HuggingFace's ``datasets`` have them: samples are mappings, and the labels have names."""

    class Names:
        names = ("night", "day")

    features = {"image": None, "label": Names()}  # noqa: RUF012 - as theirs

    def __len__(self):
        return 30

    def __getitem__(self, index):
        return {"image": Image.new("L", (4, 3), 200 * (index % 2) + index), "label": index % 2}


LAST = []


def signals():
    LAST[:] = [Signals()]
    return LAST[0]


def split_signals():
    return {"train": Signals(40), "validation": None, "test": Signals(10)}


def pictures():
    return Rows()


def load(function, tmp_path, **options):
    options = DatasetOptions(name=f"{HERE}:{function}", **options)
    return load_dataset(options, tmp_path / "cache", CodePolicy.for_running())


def test_each_sample_is_asked_for_once_beside_the_first(tmp_path):
    data = load("signals", tmp_path, test=8, validation=8)
    assert sorted(LAST[0].asked) == [0, *range(40)]
    assert data.input_shape == (2, 16)
    assert data.classes == ("falling", "rising")
    assert [len(data.train), len(data.validation), len(data.test)] == [24, 8, 8]


def test_samples_keep_their_labels_through_the_splits(tmp_path):
    data = load("signals", tmp_path)
    numbers = []
    for split in (data.train, data.validation, data.test):
        assert np.array_equal(split.inputs[:, 0, -1] > 0.5, split.labels == 1)
        numbers += split.inputs[:, 1, 0].astype(int).tolist()
    assert sorted(numbers) == list(range(40))


def test_a_mapping_of_splits_is_taken_as_it_is(tmp_path):
    data = load("split_signals", tmp_path, validation=10)
    assert [len(data.train), len(data.validation), len(data.test)] == [30, 10, 10]
    assert data.test.inputs[:, 1, 0].tolist() == list(range(10))


def test_pictures_and_named_labels_are_understood(tmp_path):
    data = load("pictures", tmp_path)
    assert data.input_shape == (1, 3, 4)
    assert data.train.inputs.dtype == np.uint8
    assert data.classes == ("night", "day")
    assert np.array_equal(data.train.inputs[:, 0, 0, 0] > 100, data.train.labels == 1)


def test_torchvisions_data_sets_are_taken(tmp_path, monkeypatch):
    from torchvision.datasets import FakeData

    monkeypatch.setattr(f"{HERE}.signals", lambda: FakeData(20, (3, 8, 8), 2))
    assert load("signals", tmp_path).input_shape == (3, 8, 8)


def test_the_splits_are_mapped_from_a_file_that_leaves_nothing(tmp_path):
    data = load("signals", tmp_path)
    base = data.train.inputs
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    assert list((tmp_path / "cache" / "materialised").iterdir()) == []


def test_groups_are_an_attribute_of_the_data_set(tmp_path):
    data = load("signals", tmp_path, groups="patient", test=8, validation=8)
    patients = [
        set((split.inputs[:, 1, 0] // 4).tolist()) for split in (data.train, data.validation, data.test)
    ]
    assert sum(map(len, patients)) == 10
    with pytest.raises(InputError, match="must have an attribute 'doctor'"):
        load("signals", tmp_path, groups="doctor")


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (torch.zeros(3), r"train\[5\]: expected a pair of a sample and its label, but got Tensor"),
        ((torch.zeros(2, 15), "rising"), r"train\[5\]: expected float32 \(2, 16\) as the first sample"),
        ((torch.full((2, 16), torch.nan), "rising"), r"train\[5\]: holds NaN"),
        ((torch.zeros(2, 16), 0.5), r"train\[5\]: expected a label that is a whole number or text"),
        (
            (torch.zeros(2, 16), torch.zeros(2)),
            r"train\[5\]: expected a label that is a whole number or text",
        ),
        (({"a": 1}, "rising"), r"train\[5\]: expected an array of numbers"),
        ({"x": torch.zeros(2, 16)}, r"train\[5\]: expected a label \(label, .*got the keys x"),
        (lambda: 1 // 0, r"train\[5\] raised ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_a_sample_names_it(tmp_path, monkeypatch, spoilt, said):
    monkeypatch.setattr(f"{HERE}.signals", lambda: Signals(spoilt=spoilt))
    with pytest.raises(InputError, match=said):
        load("signals", tmp_path)


def test_an_empty_data_set_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{HERE}.signals", lambda: Signals(0))
    with pytest.raises(InputError, match="train has no sample"):
        load("signals", tmp_path)


@pytest.mark.parametrize("returned", [[1, 2], np.zeros(3), {"train": [1]}, {"test": Rows()}, "text", None, 3])
def test_other_things_are_no_map_style_data_set(returned):
    assert map_style_splits(returned) is None


def test_no_data_set_is_imported_unless_that_is_allowed(tmp_path):
    with pytest.raises(InputError, match="is not imported here"):
        load_dataset(DatasetOptions(name=f"{HERE}:signals"), tmp_path)


def test_the_moments_of_parts_are_those_of_the_whole(monkeypatch):
    inputs = np.random.default_rng(0).normal(3, 2, (500, 3, 7)).astype(np.float32)
    whole = Normalization.standardise(inputs)
    monkeypatch.setattr("aiq_search.datasets.dataset._AT_ONCE", 1000)
    parts = Normalization.standardise(inputs)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-9)
    assert parts.shift == pytest.approx(whole.shift, rel=1e-9)
