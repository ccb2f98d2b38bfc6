"""Reading a table, CSV or Parquet, into columns of numbers and columns of text.

Rows are counted from 1, the header apart.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiq_search.datasets.labels import LONGEST_NAME
from aiq_search.errors import InputError, first_line
from aiq_search.memory import available_memory
from aiq_search.suggest import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_columns", "integers", "number_column", "read_frame", "text_column"]

PARQUET_MAGIC = b"PAR1"
# What stands for a missing value, besides what pandas takes for one (an empty field, NA, NaN, null, …).
_MISSING = ["?"]
_SEPARATORS = ",;\t"
_MOST_COLUMNS = 100_000
_LONGEST_HEADER = 2**24
# Memory that a table takes, in sizes of its file: about what pandas needs while it reads.
_COPIES = 4


def read_frame(path: Path) -> pd.DataFrame:
    """The rows of a table. Fields of a CSV are text here.

    The separator of a CSV (a comma, a semicolon or a tab) is the one that its header has most often.

    Args:
        path: A CSV with a header, in UTF-8, or a Parquet file; its first bytes decide which.

    Raises:
        InputError: The file is missing or damaged, has no rows, too many columns, two columns of one name, or
            does not fit the memory.
    """
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == PARQUET_MAGIC
        size, free = path.stat().st_size, available_memory()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    if _COPIES * size > free:
        raise InputError(f"{path}: has {size:,} bytes, but only {free:,} bytes of memory are free.")
    frame = _read_parquet(path) if parquet else _read_csv(path)
    _check_header([str(name) for name in frame.columns], path)
    frame.columns = [str(name) for name in frame.columns]
    if not len(frame):
        raise InputError(f"{path}: has a header, but no row below it.")
    return frame.reset_index(drop=True)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path, engine="pyarrow")
    except Exception as error:  # pyarrow raises many kinds
        raise InputError(f"{path}: not a readable Parquet file ({first_line(error)}).") from None


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    names, separator = _header(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=separator,
                header=0,
                names=names,
                index_col=False,
                dtype=str,
                na_values=_MISSING,
                skipinitialspace=True,
                encoding="utf-8-sig",
            )
    except pd.errors.ParserWarning:
        raise InputError(
            f"{path}: has rows with more fields than its header's {len(names)} columns; quote fields that "
            "have the separator in them."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start:,}); save it as UTF-8.") from None
    except (pd.errors.ParserError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a readable CSV ({first_line(error)}).") from None


def _header(path: Path) -> tuple[list[str], str]:
    """Names of the columns of a CSV, and its separator."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.read(_LONGEST_HEADER)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start:,}); save it as UTF-8.") from None
    line = start.splitlines()[0] if start.strip() else ""
    if not line.strip():
        raise InputError(f"{path}: expected a header with the names of the columns in the first line.")
    counts = Counter(character for character in line if character in _SEPARATORS)
    separator = counts.most_common(1)[0][0] if counts else ","
    try:
        names = next(csv.reader(io.StringIO(start), delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{path}: its header cannot be read ({first_line(error)}).") from None
    names = [name.strip() for name in names]
    _check_header(names, path)
    return names, separator


def _check_header(names: Sequence[str], path: Path) -> None:
    """Check that columns can be named."""
    if len(names) > _MOST_COLUMNS:
        raise InputError(f"{path}: has {len(names):,} columns, but at most {_MOST_COLUMNS:,} are read.")
    for number, name in enumerate(names, start=1):
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise InputError(
                f"{path}: the name of column {number} is {name[:LONGEST_NAME]!r}, but expected 1 to "
                f"{LONGEST_NAME} printable characters."
            )
    name, uses = Counter(names).most_common(1)[0] if names else ("", 0)
    if uses > 1:
        raise InputError(f"{path}: {uses} columns are named {name!r}.")


def check_columns(frame: pd.DataFrame, names: Collection[str], path: Path, field: str) -> None:
    """Check that a table has some columns.

    Args:
        frame: The table.
        names: Names of the columns.
        path: Its file, for the message.
        field: What names them, such as ``dataset.target``.

    Raises:
        InputError: One is missing.
    """
    for name in names:
        if name not in frame.columns:
            hint = did_you_mean(name, frame.columns[:20])
            raise InputError(f"{field}: {path} has no column {name!r}; {hint}")


def number_column(column: pd.Series[Any], path: Path) -> pd.Series[Any] | None:
    """A column as float64, NaN where it has no value; None where most of its values are no numbers.

    Args:
        column: Numbers or text.
        path: The file, for messages.

    Raises:
        InputError: It is neither numbers nor text; most of its values, but not all, are numbers; or a number
            is beyond float32.
    """
    import pandas as pd
    from pandas.api import types

    if types.is_bool_dtype(column.dtype):
        return None
    if types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype):
        numbers = column.astype("Float64").astype("float64") if column.hasnans else column.astype("float64")
    elif _is_text(column):
        numbers = pd.to_numeric(column.astype(object), errors="coerce").astype("float64")
        given, parsed = int(column.notna().sum()), int(numbers.notna().sum())
        if parsed * 2 <= given:
            return None
        if parsed < given:
            row = int(np.flatnonzero(column.notna() & numbers.isna())[0])
            raise InputError(
                f"{path}: column {column.name!r} has {parsed:,} numbers, but {_quoted(column.iloc[row])} in "
                f"row {row + 1:,}; correct that row, or list the column in dataset.categorical if its "
                "numbers are names."
            )
    else:
        raise InputError(
            f"{path}: column {column.name!r} holds {column.dtype}, but expected numbers or text; convert it, "
            "or leave it out with dataset.drop."
        )
    beyond = np.flatnonzero(numbers.abs() > np.finfo(np.float32).max)
    if len(beyond):
        raise InputError(
            f"{path}: column {column.name!r} has {numbers.iloc[beyond[0]]:g} in row {beyond[0] + 1:,}, which "
            "float32 cannot hold; correct it, or scale the column."
        )
    return numbers


def text_column(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """A column as text, missing where it has no value.

    Args:
        column: Text, truth values, or numbers that are names.
        path: The file, for messages.

    Raises:
        InputError: A value has no text that a category may have.
    """
    from pandas.api import types

    if types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")  # whole numbers, some of them missing
    texts = column.astype(object)
    texts = texts.where(texts.notna(), None).map(lambda value: None if value is None else str(value).strip())
    distinct = texts.dropna().unique()
    wrong = [text for text in distinct if not 0 < len(text) <= LONGEST_NAME or not text.isprintable()]
    if wrong:
        row = int(np.flatnonzero(texts == wrong[0])[0])
        raise InputError(
            f"{path}: column {column.name!r} has {_quoted(wrong[0])} in row {row + 1:,}, but a category is 1 "
            f"to {LONGEST_NAME} printable characters; leave the column out with dataset.drop, or shorten it."
        )
    return texts


def integers(texts: pd.Series[Any]) -> bool:
    """Whether every text is a whole number as it is usually written: 7 is, 007 and 7.0 are not."""
    return bool(texts.str.fullmatch(r"-?(0|[1-9][0-9]{0,17})").all())


def _is_text(column: pd.Series[Any]) -> bool:
    from pandas.api import types

    if isinstance(column.dtype, types.CategoricalDtype):
        column = column.cat.categories.to_series()
    return bool(column.dropna().map(lambda value: isinstance(value, str)).all())


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…")
