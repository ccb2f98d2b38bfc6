"""Writing a search-space file for a newcomer's network and data."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.errors import InputError
from aiq_search.space import load_space
from aiq_search.space.shipped import find_space, shipped_spaces
from aiq_search.user_code import NO_CODE, CodePolicy, is_reference, torchvision_model
from aiq_search.words import counted

if TYPE_CHECKING:
    import pandas as pd

    from aiq_search.datasets import Dataset

__all__ = ["DataFacts", "columns_of", "copy_space", "look_at_data", "suggested_file", "write_space"]

# What a search of our networks begins with: fixed arguments, and a line for each parameter.
_STAGES = (
    "model.depth:             {type: int, low: 2, high: 4}",
    "model.width1:            {type: int, low: 4, high: 32, log: true}",
    "model.width2:            {type: int, low: 4, high: 32, log: true}",
    'model.width3:            {type: int, low: 4, high: 64, log: true, when: "model.depth >= 3"}',
    'model.width4:            {type: int, low: 4, high: 64, log: true, when: "model.depth >= 4"}',
)
_REGULARISATION = (
    "model.dropout:           {type: float, low: 0.0, high: 0.3}",
    "model.batch_norm:        {type: categorical, choices: [false, true]}",
)
_SPACES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "cnn": ({"activation": "relu", "batch_norm": True, "stride1": 2, "stride2": 2}, _STAGES),
    "cnn_1d": ({"activation": "relu", "batch_norm": True, "stride1": 2, "stride2": 2}, _STAGES),
    "lenet_300_100": (
        {"activation": "elu"},
        (
            "model.hidden1:           {type: int, low: 2, high: 512, log: true}",
            "model.hidden2:           {type: int, low: 2, high: 256, log: true}",
            *_REGULARISATION,
        ),
    ),
    "lenet_5": (
        {"activation": "elu"},
        (
            "model.conv1:             {type: int, low: 2, high: 32, log: true}",
            "model.conv2:             {type: int, low: 2, high: 64, log: true}",
            "model.fc:                {type: int, low: 2, high: 128, log: true}",
            *_REGULARISATION,
        ),
    ),
    "mlp": (
        {"activation": "elu"},
        (
            "model.hidden1:           {type: int, low: 2, high: 128, log: true}",
            "model.hidden2:           {type: int, low: 2, high: 64, log: true}",
            *_REGULARISATION,
        ),
    ),
    "mobilenet_v2": (
        {"stem_stride": 1},
        ("model.width_multiplier:  {type: float, low: 0.1, high: 1.0, log: true}",),
    ),
    "resnet": (
        {"stem": "small"},
        (
            "model.depth:             {type: int, low: 2, high: 4}",
            "model.width_multiplier:  {type: float, low: 0.1, high: 1.0, log: true}",
        ),
    ),
}

# Training samples up to which a data set is small, or of middling size; epochs, samples a batch and trials.
_BUDGETS = ((1_000, 30, 16, 30), (10_000, 20, 50, 40), (None, 10, 200, 60))

# Samples that remain to train on of the data sets that are downloaded when they are first searched.
_DOWNLOADED = {"cifar10": 42_500, "cifar100": 42_500}
_DOWNLOADED |= dict.fromkeys(("fashion_mnist", "kmnist", "mnist"), 51_000)

# A folder's pictures are resized to this many pixels a side, unless the file names another number.
_SIDE = 32

# From these shares on a column of text names its rows, and the classes are uneven.
_NAMES_ROWS = 0.9
_UNEVEN = 3.0

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_NOT_PLAIN = {"false", "n", "no", "null", "off", "on", "true", "y", "yes"}


@dataclass(frozen=True)
class DataFacts:
    """What a file about some data depends on.

    Attributes:
        name: As the file names them.
        shape: Of one sample.
        classes: Their number.
        samples: In the training split.
        fields: Lines of the section ``dataset`` besides the name: key, value, and a comment.
        uneven: A sentence about classes of uneven size, or "".
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    samples: int
    fields: tuple[tuple[str, Any, str], ...] = ()
    uneven: str = ""

    @property
    def model(self) -> str:
        """The network that fits best, by the shape of a sample."""
        match len(self.shape):
            case 2:
                return "cnn_1d"
            case 3 if self.shape[0] in (1, 3) and min(self.shape[1:]) >= 16:
                return "cnn" if self.shape[0] == 3 else "lenet_5"
        return "mlp"

    @property
    def sentence(self) -> str:
        """The data in a sentence."""
        shape = " x ".join(map(str, self.shape))
        return f"{self.samples:,} samples to train on, {shape} numbers each; {self.classes} classes."


def columns_of(name: str) -> list[str]:
    """The columns of a table, to choose the one with the classes from; none of any other data.

    Raises:
        InputError: It is not a table that can be read.
    """
    from aiq_search.datasets.frame import read_frame
    from aiq_search.datasets.options import kind_of

    return list(read_frame(Path(name)).columns) if kind_of(name) == "table" else []


def look_at_data(name: str, target: str | None = None, code: CodePolicy = NO_CODE) -> DataFacts:
    """Find out what a file about some data depends on. What would be downloaded is not looked at.

    Args:
        name: As in ``dataset.name``.
        target: Of a table: the column with the classes.
        code: Which code may be imported.

    Raises:
        InputError: The data cannot be read, or a table's target is missing.
    """
    from aiq_search.datasets import DatasetOptions, known_shape, load_dataset

    _check_printable("--data", name)
    known = known_shape(name)
    options = DatasetOptions(name=name)
    if target is not None and options.kind != "table":
        raise InputError(f"--target: only a table has it, but --data is {name!r}; leave it out.")
    validation = ("validation", 0.15, "share of the training data to choose networks on")
    if known is not None and name in _DOWNLOADED:
        return DataFacts(name, *known, _DOWNLOADED[name], (validation,))
    fields: tuple[tuple[str, Any, str], ...] = ()
    if options.kind == "table":
        fields = _table_fields(Path(name), target)
    elif options.kind == "folder":
        sides = "pixels a side; [height, width] where they differ"
        fields = (("size", _SIDE, sides), ("channels", 3, "1: grey, 3: colour"))
    chosen = {key: value for key, value, _ in fields}
    dataset = load_dataset(DatasetOptions.model_validate({"name": name, **chosen}), None, code)
    return DataFacts(
        name,
        dataset.input_shape,
        len(dataset.classes),
        len(dataset.train),
        (*fields, validation, ("test", 0.2, "share to measure the champion on")),
        _uneven(dataset),
    )


def _uneven(dataset: Dataset) -> str:
    counts = dict(zip(dataset.classes, dataset.class_counts["train"], strict=True))
    most, least = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if counts[most] < _UNEVEN * counts[least]:
        return ""
    share = counts[most] / sum(counts.values())
    return f"{share:.0%} are of one class, the rarest has {counts[least]:,}: let each class count the same"


def _table_fields(path: Path, target: str | None) -> tuple[tuple[str, Any, str], ...]:
    """The lines about a table: its target, the columns to leave out, and what becomes of missing values."""
    from aiq_search.datasets.frame import check_columns, read_frame

    frame = read_frame(path)
    if target is None:
        columns = ", ".join(frame.columns[:20])
        raise InputError(f"--target: is required for a table: the column with the classes, one of {columns}.")
    check_columns(frame, [target], path, "--target")
    dropped = dict(_useless(frame, target, path))
    fields: list[tuple[str, Any, str]] = [("target", target, "the column with the classes")]
    if dropped:
        reasons = "; ".join(dict.fromkeys(dropped.values()))
        fields.append(("drop", list(dropped), f"columns to leave out: {reasons}"))
    rest = frame.drop(columns=[*dropped, target])
    missing = int(rest.isna().any(axis=1).sum())
    if frame[target].isna().any():
        fields.append(("missing", "drop", "leave out rows without a value"))
    elif missing:
        comment = f"{counted(missing, 'row')} without a value: fill by the mean, or drop the row"
        fields.append(("missing", "fill", comment))
    return tuple(fields)


def _useless(frame: pd.DataFrame, target: str, path: Path) -> Iterator[tuple[str, str]]:
    """Columns that a network cannot learn from, with the reason."""
    from aiq_search.datasets.frame import integers, number_column, text_column

    for name in frame.columns.drop(target):
        column = frame[name].dropna()
        if not len(column):
            yield name, "without any value"
        elif len(column) < len(frame) or len(frame.columns) == 2:
            continue
        elif number_column(column, path) is None:
            if column.nunique() > _NAMES_ROWS * len(column):
                yield name, "a name for each row"
        elif integers(text_column(column, path)) and (column.astype(float).diff()[1:] == 1).all():
            yield name, "the number of the row"


def suggested_file(data: str, model: str) -> Path:
    """A file name for a space.

    >>> suggested_file("tables/flowers.csv", "mlp").name, suggested_file("mnist", "mynet:tiny").name
    ('flowers-mlp.yaml', 'mnist-tiny.yaml')
    """
    source = data.rpartition(":")[2] if is_reference(data) else Path(data).stem
    return Path(f"{_space_name(f'{source}-' + model.rpartition(':')[2])}.yaml")


def _space_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:80] or "space"


def write_space(
    path: Path, model: str, data: DataFacts, *, force: bool = False, code: CodePolicy = NO_CODE
) -> None:
    """Write a commented search-space file, and check it as ``aiq space check`` would.

    Args:
        path: The file.
        model: As in ``model.name``.
        data: What ``look_at_data`` found.
        force: Whether a file of that name is replaced.
        code: Which code may be imported: a network of one's own is asked for its arguments.

    Raises:
        InputError: The network is unknown or does not fit the data, or there is such a file already.
    """
    from aiq_search.search.check import check_names, check_networks

    text = _text(path, model, data, code)
    space = load_space(_document(text, path))
    check_names(space, code)
    check_networks(space, data.shape, data.classes, code)
    _write(path, text, force=force)


def copy_space(name: str, path: Path, *, force: bool = False) -> None:
    """Write a shipped space to a file, to be changed there.

    Raises:
        InputError: There is no such space, or there is such a file already.
    """
    shipped = shipped_spaces()
    source = shipped[name] if name in shipped else find_space(name)
    load_space(source)
    _write(path, source.read_text(encoding="utf-8"), force=force)


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} exists already; name another file with --output, or add --force.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None


def _document(text: str, path: Path) -> dict[str, Any]:
    from aiq_search.space.source import read_text

    document: dict[str, Any] = read_text(text, str(path), {})
    return document


def _text(path: Path, model: str, data: DataFacts, code: CodePolicy) -> str:
    """The file."""
    import jinja2

    for option, value in (("--model", model), ("--output", str(path))):
        _check_printable(option, value)
    template = files("aiq_search.app").joinpath("templates/space.yaml.jinja").read_text(encoding="utf-8")
    arguments, parameters = _SPACES[model] if model in _SPACES else ({}, tuple(_own_parameters(model, code)))
    epochs, batch, trials = next(rest for most, *rest in _BUDGETS if most is None or data.samples < most)
    environment = jinja2.Environment(  # noqa: S701 - YAML, not HTML
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(
        title=f"{model} for {data.name}, written by `aiq new`.",
        file=path,
        name=_space_name(path.stem),
        model=_yaml({"name": model, **arguments}),
        samples=data.sentence,
        dataset=[("name", _yaml(data.name), ""), *((k, _yaml(v), c) for k, v, c in data.fields)],
        parameters=[re.sub(r"^(\S+) +", lambda found: f"{found[1]:<24}", line) for line in parameters],
        uneven=data.uneven,
        trials=trials,
        epochs=epochs,
        batch_size=batch,
        min_resource=max(1, epochs // 5),
        patience=max(2, epochs // 4),
    )


def _check_printable(option: str, value: str) -> None:
    if not value.isprintable():
        raise InputError(f"{option}: expected printable characters, but got {value!r}.")


def _own_parameters(model: str, code: CodePolicy) -> Iterator[str]:
    """A line for each width and each switch that a function of one's own has a default for."""
    from aiq_search.models import check_argument_names, check_model_name

    check_model_name(model)
    if torchvision_model(model) is not None:
        return
    check_argument_names(model, (), code)
    for name, argument in inspect.signature(code.load(model)).parameters.items():
        if isinstance(argument.default, bool):
            yield f"model.{name}: {{type: categorical, choices: [false, true]}}"
        elif isinstance(argument.default, int) and argument.default > 1:
            low, high = max(1, argument.default // 4), 4 * argument.default
            yield f"model.{name}: {{type: int, low: {low}, high: {high}, log: true}}"


def _yaml(value: Any) -> str:  # noqa: ANN401
    """A value in YAML, on one line."""
    match value:
        case str():
            plain = _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN
            return value if plain else json.dumps(value, ensure_ascii=False)
        case Mapping():
            return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_yaml, value)) + "]"
    return json.dumps(value)
