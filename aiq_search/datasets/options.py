"""The ``dataset`` section of a search-space file."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TABLES", "DatasetOptions", "Kind"]

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, lt=2**63)]
ColumnName = Annotated[str, Field(min_length=1, max_length=100)]
ColumnNames = Annotated[tuple[ColumnName, ...], Field(strict=False, max_length=10_000)]
Side = Annotated[int, Field(ge=1, le=4096)]

# Suffixes of the files that are read as tables.
TABLES = (".csv", ".tsv", ".parquet")

# What a name can name.
Kind = Literal["named", "arrays", "table", "folder", "code"]

# The fields of ``DatasetOptions`` that only some kinds of data have, and those that came after studies were
# first fingerprinted.
FIELDS_OF: dict[str, tuple[Kind, ...]] = {
    "target": ("table",),
    "drop": ("table",),
    "categorical": ("table",),
    "missing": ("table",),
    "groups": ("table", "arrays", "code"),
    "size": ("folder",),
    "channels": ("folder",),
}


class DatasetOptions(BaseModel):
    """Which data, and how they are split.

    Attributes:
        name: A name of ``DATASETS``; the path of an ``.npz``, of a table (``.csv``, ``.tsv``, ``.parquet``)
            or of a folder of pictures (it ends with ``/``); or ``package.module:function``.
        validation: Size of the validation split, taken from the training data: a number of samples
            or a fraction of them. Ignored by a source that brings its own.
        test: Size of the test split, for a source that has none of its own.
        split_seed: Fixes which samples go where, and which labels are randomised.
        label_noise: Fraction of the training labels replaced by uniformly random ones.
        watch: Splits, train or test or both, that a network is measured on after every epoch, too. The
            numbers are only reported: no choice depends on them.
        target: Of a table: the column with the classes.
        drop: Of a table: columns to leave out.
        categorical: Of a table: columns of numbers that are names, such as postcodes.
        missing: Of a table: what becomes of missing values. refuse: an error; fill: a number becomes the
            training split's mean, and a missing category is a category; drop: the row is left out.
        groups: What may not be split, such as a patient: a column of the table, or the name of an array with
            one entry for each training sample.
        size: Of a folder of pictures: height and width, or one number for both; pictures are resized.
        channels: Of a folder of pictures: 1 (grey) or 3 (colour).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=4096)
    validation: Count | Fraction = 0.15
    test: Count | Fraction = 0.2
    split_seed: int = Field(default=0, ge=0, lt=2**63)
    label_noise: float = Field(default=0.0, ge=0, le=1)
    watch: Annotated[tuple[Literal["train", "test"], ...], Field(strict=False, max_length=2)] = ()
    target: ColumnName | None = None
    drop: ColumnNames = ()
    categorical: ColumnNames = ()
    missing: Literal["refuse", "fill", "drop"] = "refuse"
    groups: ColumnName | None = None
    size: Side | Annotated[tuple[Side, Side], Field(strict=False)] | None = None
    channels: Literal[1, 3] = 3

    @property
    def given(self) -> dict[str, Any]:
        """The fields that only some kinds of data have, where they differ from their defaults."""
        fields = type(self).model_fields
        return {name: value for name in FIELDS_OF if (value := getattr(self, name)) != fields[name].default}

    @property
    def kind(self) -> Kind | None:
        """What ``name`` names, by its form alone; None where it cannot be told."""
        return kind_of(self.name)


def kind_of(name: str) -> Kind | None:
    """What a name names, by its form alone; a plain word is the name of a data set.

    Example:
        >>> [kind_of(name) for name in ("digits", "wine.csv", "data/wine.npz", "flowers/", "mydata:load")]
        ['named', 'table', 'arrays', 'folder', 'code']
    """
    from aiq_search.user_code import is_reference

    suffix = PurePath(name).suffix.lower()
    if suffix in TABLES and not name.endswith("/"):
        return "table"
    if name.endswith(".npz"):
        return "arrays"
    if is_reference(name):
        return "code"
    if "/" in name:
        return "folder"
    return "named"
