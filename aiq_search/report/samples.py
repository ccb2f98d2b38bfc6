"""A few samples of the data as a page shows them: pictures, curves, or rows of a table."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset

__all__ = ["Curve", "DataSamples", "samples_of"]

# Of what is shown there may be so much.
_CLASSES = 12
_EACH = {"pictures": 8, "curves": 3, "rows": 2}  # samples of a class
_SIDE = 96  # pixels of a picture
_POINTS = 150  # of a curve
_CHANNELS = 4
_COLUMNS = 12

# A curve as a page draws it: each channel's points, (0, 0) at the top left.
Curve = Sequence[Sequence[tuple[float, float]]]
_WIDTH, _HEIGHT = 200.0, 60.0


@dataclass(frozen=True)
class DataSamples:
    """The first training samples of each class.

    Attributes:
        digest: Of the data.
        kind: How they are shown.
        columns: Of rows: what their cells are.
        pictures: By class, PNG files in base64.
        curves: By class.
        rows: By class, the cells of each row.
        note: What is left out, a sentence; empty if nothing is.
    """

    digest: str
    kind: Literal["pictures", "curves", "rows"]
    columns: Sequence[str] = ()
    pictures: Sequence[tuple[str, Sequence[str]]] = ()
    curves: Sequence[tuple[str, Sequence[Curve]]] = ()
    rows: Sequence[tuple[str, Sequence[Sequence[str]]]] = ()
    note: str = ""


def samples_of(dataset: Dataset) -> DataSamples | None:
    """Some samples of the training split; None for data of another shape than the three.

    Args:
        dataset: The data.
    """
    shape = dataset.input_shape
    if len(shape) == 3 and shape[0] in (1, 3):
        chosen = list(_chosen(dataset, "pictures"))
        values = np.concatenate([inputs for _, inputs in chosen])
        low, high = float(values.min()), float(values.max())
        pictures = [(name, [_png(each, low, high) for each in inputs]) for name, inputs in chosen]
        return DataSamples(dataset.digest, "pictures", pictures=pictures, note=_left_out(dataset))
    if len(shape) == 2:
        curves = [(name, [_curve(each) for each in inputs]) for name, inputs in _chosen(dataset, "curves")]
        more = f"the first {_CHANNELS} of {shape[0]} channels" if shape[0] > _CHANNELS else ""
        return DataSamples(dataset.digest, "curves", curves=curves, note=_left_out(dataset, more))
    if len(shape) == 1:
        return _table(dataset)
    return None


def _chosen(dataset: Dataset, kind: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """The first classes, each with its first training samples."""
    for number, name in enumerate(dataset.classes[:_CLASSES]):
        places = np.flatnonzero(dataset.train.labels == number)[: _EACH[kind]]
        yield name, dataset.train.inputs[places]


def _left_out(dataset: Dataset, *more: str) -> str:
    classes = len(dataset.classes)
    parts = [f"the first {_CLASSES} of {classes:,} classes"] if classes > _CLASSES else []
    parts += [part for part in more if part]
    return f"Shown are {' and '.join(parts)}." if parts else ""


def _png(pixels: NDArray[Any], low: float, high: float) -> str:
    """A picture, (C, H, W), as a file: ``low`` is black, ``high`` is white."""
    from PIL import Image

    pixels = ((pixels.astype(np.float64) - low) * (255 / ((high - low) or 1.0))).round().astype(np.uint8)
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _curve(signal: NDArray[Any]) -> Curve:
    """The channels of a signal, (C, L), on one scale."""
    places = np.linspace(0, signal.shape[1] - 1, min(_POINTS, signal.shape[1])).round().astype(int)
    values = signal[:_CHANNELS, places].astype(np.float64)
    low, high = float(values.min()), float(values.max())
    down = _HEIGHT - (values - low) * (_HEIGHT / ((high - low) or 1.0))
    across = np.linspace(0, _WIDTH, len(places))
    return [[(round(x, 1), round(y, 1)) for x, y in zip(across, line, strict=True)] for line in down.tolist()]


def _table(dataset: Dataset) -> DataSamples:
    encoding = dataset.encoding
    names = (
        [f"feature {number}" for number in range(dataset.input_shape[0])]
        if encoding is None
        else [column.name for column in encoding.columns]
    )

    def cells(features: NDArray[Any]) -> list[str]:
        values = [float(each) for each in features] if encoding is None else encoding.decode(features)
        return [each if isinstance(each, str) else f"{each:.4g}" for each in values[:_COLUMNS]]

    rows = [(name, [cells(each) for each in inputs]) for name, inputs in _chosen(dataset, "rows")]
    more = f"the first {_COLUMNS} of {len(names):,} columns" if len(names) > _COLUMNS else ""
    return DataSamples(
        dataset.digest, "rows", columns=names[:_COLUMNS], rows=rows, note=_left_out(dataset, more)
    )
