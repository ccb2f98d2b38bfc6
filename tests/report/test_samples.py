"""What a page shows of the data is the data: pictures, curves, rows as they were."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import TypeAdapter

from aiq_search.datasets import Dataset, load_dataset
from aiq_search.datasets.dataset import Normalization, Split
from aiq_search.datasets.options import DatasetOptions
from aiq_search.report.page import write_report
from aiq_search.report.samples import DataSamples, samples_of
from tests.tracking.simulated import RecordedTrials, document, simulated_study

EVIL = "<script>alert(1)</script>"


def dataset(inputs: Any, labels: Any, classes: tuple[str, ...]) -> Dataset:
    split = Split(np.asarray(inputs), np.asarray(labels))
    return Dataset("made", split, split, split, classes, Normalization((1.0,), (0.0,)), "d" * 64)


def shown(data: Dataset) -> DataSamples:
    found = samples_of(data)
    assert found is not None
    kept = TypeAdapter(DataSamples)
    assert kept.dump_json(kept.validate_json(kept.dump_json(found))) == kept.dump_json(found)
    return found


def opened(file: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(file)))


def test_pictures_are_the_first_of_each_class() -> None:
    data = load_dataset(DatasetOptions(name="digits"))
    found = shown(data)
    assert found.kind == "pictures"
    assert [name for name, _ in found.pictures] == list(data.classes)
    assert {len(files) for _, files in found.pictures} == {8}
    place = int(np.flatnonzero(data.train.labels == 3)[0])
    pixels = np.asarray(opened(found.pictures[3][1][0]))
    assert np.array_equal(pixels, np.round(data.train.inputs[place, 0] * (255 / 16)))
    assert found.note == ""


def test_large_and_coloured_pictures_are_thumbnails_and_many_classes_are_cut() -> None:
    inputs = np.zeros((20, 3, 200, 100), np.uint8)
    inputs[:, 0] = 255
    found = shown(dataset(inputs, np.arange(20), tuple(f"c{n}" for n in range(20))))
    assert len(found.pictures) == 12
    assert found.note == "Shown are the first 12 of 20 classes."
    picture = opened(found.pictures[0][1][0])
    assert (picture.size, picture.mode, picture.getpixel((0, 0))) == ((48, 96), "RGB", (255, 0, 0))


def test_signals_are_curves_on_one_scale() -> None:
    signal = np.stack([np.linspace(0, 10, 500), np.linspace(10, 0, 500)])
    found = shown(dataset([signal, signal], [0, 1], ("up", "down")))
    [first, second] = found.curves[0][1][0]
    assert (first[0], first[-1], second[0], second[-1]) == ((0, 60), (200, 0), (0, 0), (200, 60))
    assert len(first) == 150


def test_rows_of_a_table_have_the_values_that_the_file_has(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "age": [31.5, 40, None, 58] * 10,
            "site": ["left", None, "right", "left"] * 10,
            "health": ["sick", "well", "well", "sick"] * 10,
        }
    )
    frame.to_csv(tmp_path / "patients.csv", index=False)
    name = str(tmp_path / "patients.csv")
    data = load_dataset(DatasetOptions(name=name, target="health", missing="fill", validation=8, test=8))
    found = shown(data)
    assert found.columns == ["age", "site"]
    assert [name for name, _ in found.rows] == ["sick", "well"]
    cells = [cell for _, rows in found.rows for cell in rows]
    assert len(cells) == 4
    assert {cell[1] for cell in cells} <= {"left", "right", ""}
    assert {tuple(cell) for cell in found.rows[0][1]} <= {("31.5", "left"), ("58", "left")}
    assert ("40", "") in map(tuple, found.rows[1][1]) or found.rows[1][1][0][1] == "right"


def test_arrays_of_features_have_numbers_and_other_shapes_are_not_shown() -> None:
    found = shown(dataset(np.arange(40.0).reshape(2, 20), [0, 1], ("a", "b")))
    assert found.columns[:2] == ["feature 0", "feature 1"]
    assert found.rows[1][1][0][:2] == ["20", "21"]
    assert found.note == "Shown are the first 12 of 20 columns."
    assert samples_of(dataset(np.zeros((2, 2, 3, 4, 5)), [0, 1], ("a", "b"))) is None


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 9), (5,)])
def test_they_are_in_the_report_and_cannot_break_out_of_it(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = dataset(np.ones((2, *shape), np.float32), [0, 1], ("a", EVIL))
    counts = {split: [1] * 10 for split in ("train", "validation", "test")}
    study = RecordedTrials(
        simulated_study(10).records(), dataset=document()["dataset"] | {"class_counts": counts}
    )
    page = write_report(study, tmp_path / "r.html", samples=samples_of(data)).read_text()
    assert 'id="data-samples"' in page
    assert EVIL not in page
    assert not [source for source in page.split('src="')[1:] if not source.startswith("data:image/png;")]
