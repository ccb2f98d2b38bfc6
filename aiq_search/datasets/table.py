"""A table as a data set: one row a sample, one column the class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.datasets.dataset import Split
from aiq_search.datasets.encoding import TableEncoding
from aiq_search.datasets.frame import check_columns, integers, number_column, read_frame, text_column
from aiq_search.datasets.labels import number_labels
from aiq_search.datasets.options import DatasetOptions
from aiq_search.datasets.sources import Arrays, Inputs
from aiq_search.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["from_table"]

# Different numbers in a target from which it is taken for a quantity, if every fifth row has another.
_QUANTITY = 20
_ROWS_A_NUMBER = 5


def from_table(options: DatasetOptions, encoding: TableEncoding | None = None) -> Arrays:
    """The rows of a CSV or a Parquet file. They are encoded once it is known which are to train on.

    Args:
        options: The file, its target and what to do with its columns.
        encoding: How its rows are encoded; by default as those to train on suggest.

    Raises:
        InputError: The file, one of its columns or one of its rows cannot be used; the message names it.
    """
    path = Path(options.name)
    if options.target is None:
        raise InputError(f"dataset.target: is required for a table: the column of {path} with the classes.")
    if not path.is_file():
        raise InputError(f"dataset.name: {path} does not exist; expected a table with a header.")
    frame = read_frame(path)
    check_columns(frame, [options.target], path, "dataset.target")
    check_columns(frame, options.drop, path, "dataset.drop")
    check_columns(frame, options.categorical, path, "dataset.categorical")
    check_columns(frame, [options.groups] if options.groups else [], path, "dataset.groups")
    columns = _columns(frame, options, path) if encoding is None else encoding.columns_of(frame, path)
    named = {**columns, options.target: text_column(frame[options.target], path)}
    if options.groups:
        named[options.groups] = text_column(frame[options.groups], path)
    kept = _rows_to_keep(named, options, path)
    target = named[options.target].iloc[kept]
    where = f"dataset.target: {path}, column {options.target!r}"
    labels, classes = number_labels({"train": _labels(target, path)}, None, where)
    groups = None
    if options.groups:
        groups = np.unique(named[options.groups].iloc[kept].to_numpy(str), return_inverse=True)[1]
    fill = options.missing == "fill"
    kept_columns = {name: column.iloc[kept].reset_index(drop=True) for name, column in columns.items()}

    def encoded(rows: Mapping[str, NDArray[Any]]) -> Inputs:
        fitted = encoding or TableEncoding.fit(kept_columns, rows["train"], path, fill=fill)
        features = fitted.encode(kept_columns, path)
        return Inputs({split: features[chosen] for split, chosen in rows.items()}, fitted)

    return Arrays(Split(np.arange(len(kept)), labels["train"], groups), classes=classes, read=encoded)


def _columns(frame: pd.DataFrame, options: DatasetOptions, path: Path) -> dict[str, pd.Series[Any]]:
    """The columns that become features: float64 for numbers, text for names."""
    left_out = {options.target, options.groups, *options.drop}
    columns = {}
    for name in frame.columns:
        if name in left_out:
            continue
        if not frame[name].notna().any():
            raise InputError(
                f"{path}: column {name!r} has no value in any row; leave it out with dataset.drop."
            )
        numbers = None if name in options.categorical else number_column(frame[name], path)
        columns[name] = text_column(frame[name], path) if numbers is None else numbers
    if not columns:
        raise InputError(f"{path}: has no column left beside {options.target!r} to learn from.")
    return columns


def _rows_to_keep(
    columns: Mapping[str, pd.Series[Any]], options: DatasetOptions, path: Path
) -> NDArray[np.int64]:
    """Positions of the rows that take part.

    Raises:
        InputError: A value is missing where that is refused, or no row is left.
    """
    absent = {name: column.isna().to_numpy() for name, column in columns.items()}
    rows = len(next(iter(absent.values())))
    if options.missing == "drop":
        kept = np.flatnonzero(~np.any(list(absent.values()), axis=0))
        if not len(kept):
            raise InputError(
                f"dataset.missing: every one of the {rows:,} rows of {path} lacks a value; leave out columns "
                "with dataset.drop, or fill."
            )
        return kept
    for name, missing in absent.items():
        required = name in (options.target, options.groups)
        if missing.any() and (required or options.missing == "refuse"):
            what = f"{path}: column {name!r} has no value in row {int(missing.argmax()) + 1:,}"
            others = f" (nor have {missing.sum() - 1:,} other rows)" if missing.sum() > 1 else ""
            fill = "" if required else "fill (numbers by the mean, names as a name of their own) or "
            raise InputError(f"{what}{others}; set dataset.missing to {fill}drop (leave out such rows).")
    return np.arange(rows)


def _labels(target: pd.Series[Any], path: Path) -> NDArray[Any]:
    """The classes as whole numbers, so that 2 comes before 10, or as text.

    Raises:
        InputError: They are a quantity.
    """
    if integers(target):
        values: NDArray[Any] = target.to_numpy(str).astype(np.int64)
    else:
        values = target.to_numpy(str)
    numbers = number_column(target, path) if not integers(target) else target
    distinct = len(np.unique(values))
    if numbers is not None and distinct > max(_QUANTITY, len(values) / _ROWS_A_NUMBER):
        raise InputError(
            f"dataset.target: column {target.name!r} of {path} has {distinct:,} different numbers in "
            f"{len(values):,} rows, but expected classes; values to predict (regression) are not supported."
        )
    return values
