"""How the columns of a table become the features of a network; it travels with the network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aiq_search.datasets.dataset import Normalization
from aiq_search.datasets.frame import check_columns, number_column, text_column
from aiq_search.datasets.labels import LONGEST_NAME
from aiq_search.errors import InputError
from aiq_search.memory import available_memory

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CategoryColumn", "NumberColumn", "TableEncoding"]

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
_MOST_COLUMNS = 100_000
_MOST_CATEGORIES = 1000
# Rows from which a column with a different text in every second one names rows.
_ROWS_TO_JUDGE = 20
_LISTED = 5


class Column(BaseModel):
    """A column of a table.

    Attributes:
        name: Its name in the header.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name


class NumberColumn(Column):
    """A column of numbers: one feature, the number itself.

    Attributes:
        kind: Always ``number``.
        fill: What a missing value becomes, the mean of the training split; None where it is refused.
        low: Smallest number of the training split.
        high: Largest.
    """

    kind: Literal["number"] = "number"
    fill: Finite | None
    low: Finite
    high: Finite

    @property
    def margin(self) -> float:
        """How far beyond the training split's range a number is not worth a note."""
        return (self.high - self.low) / 2

    @property
    def width(self) -> int:
        """How many features it becomes."""
        return 1


class CategoryColumn(Column):
    """A column of names: one feature for each, 1 where the row has it and 0 elsewhere.

    Attributes:
        kind: Always ``category``.
        categories: The names that the training split has.
        missing: Whether a missing value has a feature too, the last; else it is refused.
    """

    kind: Literal["category"] = "category"
    categories: Annotated[tuple[Name, ...], Field(min_length=1, max_length=_MOST_CATEGORIES)]
    missing: bool

    @property
    def width(self) -> int:
        """How many features it becomes."""
        return len(self.categories) + self.missing


class TableEncoding(BaseModel):
    """The columns of a table in the order of their features.

    Attributes:
        columns: Columns of numbers and of names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: Annotated[
        tuple[Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")], ...],
        Field(min_length=1, max_length=_MOST_COLUMNS),
    ]

    @model_validator(mode="after")
    def _differ(self) -> TableEncoding:
        if len({column.name for column in self.columns}) < len(self.columns):
            raise ValueError("two columns have the same name")
        for column in self.columns:
            if isinstance(column, CategoryColumn) and len(set(column.categories)) < len(column.categories):
                raise ValueError(f"two categories of {column.name!r} have the same name")
        return self

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(column.width for column in self.columns)

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, pd.Series[Any]],
        training: NDArray[np.int64],
        path: Path,
        *,
        fill: bool,
    ) -> TableEncoding:
        """The encoding of a table, from the rows of its training split alone.

        Args:
            columns: float64 for numbers, text for names; NaN and None where there is no value.
            training: Positions of the training rows.
            path: The table, for messages.
            fill: Whether missing values are filled; else there are none.

        Raises:
            InputError: A column has no value in the training split, or a different name in most rows.
        """
        encoded: list[NumberColumn | CategoryColumn] = []
        for name, column in columns.items():
            seen = column.iloc[training].dropna()
            if not len(seen):
                raise InputError(
                    f"{path}: column {name!r} has no value in the {len(training):,} rows to train on; leave "
                    "it out with dataset.drop."
                )
            if column.dtype == np.float64:
                encoded.append(_numbers(name, seen, fill=fill))
            else:
                encoded.append(_categories(name, seen, path, missing=fill and bool(column.isna().any())))
        return cls(columns=tuple(encoded))

    def columns_of(self, frame: pd.DataFrame, path: Path) -> dict[str, pd.Series[Any]]:
        """The columns of another table of this form, as ``encode`` takes them.

        Raises:
            InputError: One is missing, or has values of another kind.
        """
        check_columns(frame, [column.name for column in self.columns], path, "the network's table")
        columns = {}
        for column in self.columns:
            given = frame[column.name]
            if isinstance(column, CategoryColumn):
                columns[column.name] = text_column(given, path)
                continue
            numbers = number_column(given, path) if given.notna().any() else given.astype("float64")
            if numbers is None:
                raise InputError(f"{path}: column {column.name!r} holds text, but numbers in training.")
            columns[column.name] = numbers
        return columns

    def encode(self, columns: Mapping[str, pd.Series[Any]], path: Path) -> NDArray[np.float32]:
        """The features of all rows, float32, (N, features).

        A name that the training split lacks is 0 in every feature of its column.

        Args:
            columns: As ``fit`` takes them.
            path: The table, for messages.

        Raises:
            InputError: A value is missing where that is refused, or the features do not fit the memory.
        """
        rows = len(columns[self.columns[0].name])
        if 2 * 4 * rows * self.width > available_memory():
            raise InputError(
                f"{path}: {rows:,} rows of {self.width:,} features do not fit the memory; leave out columns "
                "with many different names (dataset.drop)."
            )
        features = np.zeros((rows, self.width), np.float32)
        at = 0
        for column in self.columns:
            values = columns[column.name]
            self._check_missing(column, values, path)
            if isinstance(column, NumberColumn):
                fill = column.fill
                features[:, at] = values if fill is None else values.fillna(fill)
            else:
                position = {name: number for number, name in enumerate(column.categories)}
                places = np.array([position.get(value, -1) for value in values.tolist()])
                places[values.isna()] = len(position)
                known = np.flatnonzero(places >= 0)
                features[known, at + places[known]] = 1
            at += column.width
        return features

    def decode(self, features: NDArray[np.float32]) -> list[float | str]:
        """The value of each column, from the features of one row; a name that is not known is empty.

        Args:
            features: (features,).
        """
        values: list[float | str] = []
        at = 0
        for column in self.columns:
            own = features[at : at + column.width]
            at += column.width
            if isinstance(column, NumberColumn):
                values.append(float(own[0]))
                continue
            names = (*column.categories, *(("",) if column.missing else ()))
            values.append(names[int(own.argmax())] if own.any() else "")
        return values

    @staticmethod
    def _check_missing(column: NumberColumn | CategoryColumn, values: pd.Series[Any], path: Path) -> None:
        absent = np.flatnonzero(values.isna())
        refused = not column.missing if isinstance(column, CategoryColumn) else column.fill is None
        if len(absent) and refused:
            raise InputError(
                f"{path}: column {column.name!r} has no value in row {absent[0] + 1:,}, and the network was "
                "trained on rows with a value; fill it in, or leave the row out."
            )

    def notes(self, columns: Mapping[str, pd.Series[Any]]) -> Iterator[str]:
        """What is unlike the training split in some rows, a sentence for each column."""
        for column in self.columns:
            values = columns[column.name].dropna()
            if isinstance(column, CategoryColumn):
                unknown = values[~values.isin(column.categories)]
                if len(unknown):
                    listed = ", ".join(map(repr, unknown.unique()[:_LISTED].tolist()))
                    yield (
                        f"column {column.name!r} has names that the training data lack ({listed}) in "
                        f"{len(unknown):,} rows: they count as none of the known names."
                    )
            elif len(values) and (
                values.min() < column.low - column.margin or values.max() > column.high + column.margin
            ):
                yield (
                    f"column {column.name!r} ranges from {values.min():g} to {values.max():g}, but from "
                    f"{column.low:g} to {column.high:g} in training: the answers may be meaningless."
                )

    def normalization(self, training: NDArray[np.float32]) -> Normalization:
        """The map that standardises the numbers and leaves the names' zeros and ones as they are."""
        standard = Normalization.standardise(training)
        number = np.concatenate(
            [np.full(column.width, isinstance(column, NumberColumn)) for column in self.columns]
        )
        scale = np.where(number, standard.scale, 1.0)
        shift = np.where(number, standard.shift, 0.0)
        return Normalization(tuple(scale.tolist()), tuple(shift.tolist()))


def _numbers(name: str, seen: pd.Series[Any], *, fill: bool) -> NumberColumn:
    mean = math.fsum(seen) / len(seen)
    return NumberColumn(name=name, fill=mean if fill else None, low=float(seen.min()), high=float(seen.max()))


def _categories(name: str, seen: pd.Series[Any], path: Path, *, missing: bool) -> CategoryColumn:
    names: Sequence[str] = sorted(seen.unique().tolist())
    unique = len(seen) >= _ROWS_TO_JUDGE and 2 * len(names) > len(seen)
    if unique or len(names) > _MOST_CATEGORIES:
        raise InputError(
            f"{path}: column {name!r} has {len(names):,} different texts in {len(seen):,} rows, such as "
            f"{names[0]!r}: it names rows rather than describes them. Leave it out with dataset.drop, or "
            "make numbers of it."
        )
    return CategoryColumn(name=name, categories=tuple(names), missing=missing)
