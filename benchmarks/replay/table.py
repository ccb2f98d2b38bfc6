"""The table: every network of the grid trained on several seeds by the product itself, epoch by epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from aiq_search import resume_search, run_search
from aiq_search.errors import InputError, StudyError
from aiq_search.study import Study
from aiq_search.worker import Assignment, Report

__all__ = ["TABLE", "WIDTHS", "Cell", "Table", "build", "chosen_epochs"]

_FOLDER = Path(__file__).parent
TABLE = _FOLDER / "lenet_5_grid.csv"
_SPACE = _FOLDER / "lenet_5_grid.yaml"

WIDTHS = ("conv1", "conv2", "fc")
_SIZE = ("parameters", "parameters_weights", "macs")
_SEEDS = 3
_BEST = 12
_FURTHER_SEEDS = 5

_T = TypeVar("_T")

# A configuration: its widths, in the order of WIDTHS.
Cell = tuple[int, int, int]


class Table:
    """A world in which each training is one of the table's.

    A training with some seed is answered by the cell's run number ``seed % runs``: the seeds of a study are
    hashes, so this draws among the cell's runs with replacement. In this world a cell's true value is its
    mean over its runs, exactly.

    Args:
        rows: A row an epoch, as ``build`` gives them.

    Attributes:
        epochs: How many each run has.
        means: The true value of each cell: mean aIQ at the chosen epoch, 0 where the network collapsed.
        sds: Standard deviation of the same over each cell's runs.

    Raises:
        InputError: The runs are not all whole and of one length.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self._runs: dict[Cell, list[list[dict[str, float]]]] = {}
        for (*widths, _), run in rows.groupby([*WIDTHS, "seed"]):
            cell: Any = tuple(int(width) for width in widths)
            ordered = run.sort_values("epoch").drop(columns=[*WIDTHS, "seed"])
            if list(ordered["epoch"]) != list(range(1, len(ordered) + 1)):
                raise InputError(f"the table's runs of {cell} are not whole; build it again.")
            self._runs.setdefault(cell, []).append(ordered.to_dict("records"))
        lengths = {len(run) for runs in self._runs.values() for run in runs}
        if len(lengths) != 1:
            raise InputError(f"the table's runs must be of one length, but got {sorted(lengths)} epochs.")
        (self.epochs,) = lengths
        values = chosen_epochs(rows).groupby(list(WIDTHS))["aiq"]
        means, sds = values.mean(), values.std()
        self.means: dict[Cell, float] = {cell: float(means[cell]) for cell in self._runs}
        self.sds: dict[Cell, float] = {cell: float(sds[cell]) for cell in self._runs}

    @classmethod
    def load(cls, path: Path = TABLE) -> Table:
        """Read a table that was built.

        Raises:
            InputError: It is not there.
        """
        if not path.is_file():
            raise InputError(f"{path}: no table; `python -m benchmarks.replay build` makes it.")
        return cls(pd.read_csv(path))

    def mirrored(self) -> Table:
        """The same numbers with the order of the widths turned round: what was best narrow is best wide."""
        widths = sorted({width for cell in self._runs for width in cell})
        other = dict(zip(widths, reversed(widths), strict=True))

        def turned(values: Mapping[Cell, _T]) -> dict[Cell, _T]:
            return {(other[a], other[b], other[c]): value for (a, b, c), value in values.items()}

        table = copy.copy(self)
        table._runs, table.means, table.sds = turned(self._runs), turned(self.means), turned(self.sds)
        return table

    @property
    def best(self) -> Cell:
        """The cell with the highest mean."""
        return max(self.means, key=self.means.__getitem__)

    def regret(self, cell: Cell) -> float:
        """By how much a cell's mean falls short of the best cell's."""
        return self.means[self.best] - self.means[cell]

    @property
    def seeds(self) -> dict[Cell, int]:
        """How many runs each cell has."""
        return {cell: len(runs) for cell, runs in self._runs.items()}

    def report(self, assignment: Assignment, epoch: int) -> Report:
        """What a worker would have reported of an assignment after an epoch.

        The table has no test split: where a test is asked for, the validation numbers stand in.

        Args:
            assignment: The network and its seed.
            epoch: From 1.

        Raises:
            InputError: The table does not have the network, or is of another length.
        """
        cell = cell_of(assignment.architecture["arguments"])
        if cell not in self._runs or assignment.training["epochs"] != self.epochs:
            raise InputError(
                f"the table has {len(self._runs)} cells of {self.epochs} epochs, but was asked for {cell} "
                f"with {assignment.training['epochs']} epochs; replay a search of the table's own space."
            )
        run = self._runs[cell][assignment.seed % len(self._runs[cell])]
        row = run[epoch - 1]
        chosen = min(run[:epoch], key=lambda told: (told["loss"], told["epoch"]))
        done = epoch == self.epochs
        tested = ("aiq", "accuracy", "efficiency") if done and assignment.test else ()
        return Report(
            epochs=((epoch, {name: row[name] for name in row if name not in (*_SIZE, "epoch")}),),
            chosen=int(chosen["epoch"]),
            size={name: int(row[name]) for name in _SIZE},
            done=done,
            final={f"test/{name}": chosen[name] for name in tested},
        )


def cell_of(widths: Mapping[str, Any]) -> Cell:
    """The cell of a model's arguments."""
    conv1, conv2, fc = (int(widths[name]) for name in WIDTHS)
    return conv1, conv2, fc


def build(home: Path, data_dir: Path | None = None) -> pd.DataFrame:
    """Train the whole grid on 3 seeds, and the 12 best cells on 5 more; about an hour on two cores.

    Each seed is a study of its own. What an earlier call left unfinished is resumed.

    Args:
        home: AIQ_HOME of the studies.
        data_dir: Folder of the data files.

    Returns:
        A row an epoch: the widths, seed, epoch, and what was reported.
    """
    studies = [_finished(home, data_dir, seed, []) for seed in range(_SEEDS)]
    everywhere = pd.concat([pd.DataFrame(_rows(study)) for study in studies])
    means = chosen_epochs(everywhere).groupby(list(WIDTHS))["aiq"].mean()
    best = [dict(zip(WIDTHS, cell, strict=True)) for cell in means.nlargest(_BEST).index]
    points = [{f"model.{name}": int(width) for name, width in cell.items()} for cell in best]
    edits = [f"enqueue={points}", f"search.trials={_BEST}", "search.sampler=random"]
    further = range(_SEEDS, _SEEDS + _FURTHER_SEEDS)
    studies += [_finished(home, data_dir, seed, edits) for seed in further]
    rows = pd.DataFrame([row for study in studies for row in _rows(study)])
    return rows.sort_values([*WIDTHS, "seed", "epoch"], ignore_index=True)


def _finished(home: Path, data_dir: Path | None, seed: int, edits: list[str]) -> Study:
    name = f"grid-seed-{seed}"
    tracking_uri = f"sqlite:///{home.resolve()}/mlflow.db"
    try:
        Study.open(name, home)
    except StudyError:
        result = run_search(
            _SPACE,
            overrides=[f"search.seed={seed}", *edits],
            study_id=name,
            home=home,
            data_dir=data_dir,
            tracking_uri=tracking_uri,
        )
    else:
        result = resume_search(name, home=home, data_dir=data_dir, tracking_uri=tracking_uri)
    if result.reason != "finished":
        raise SystemExit(result.message or f"{name} was interrupted; the same command goes on from there.")
    return result.study


def _rows(study: Study) -> Iterator[dict[str, float]]:
    for record in study.records():
        for index in range(record.epochs):
            yield {
                **{name: record.params[f"model.{name}"] for name in WIDTHS},
                "seed": study.space.search.seed,
                "epoch": index + 1,
                **{name: round(values[index], 6) for name, values in record.history.items()},
                **{name: int(record.metrics[name]) for name in _SIZE},
            }


def chosen_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each network the epoch of the lowest validation loss, which its numbers are taken from."""
    ordered = rows.sort_values(["loss", "epoch"])
    return ordered.groupby([*WIDTHS, "seed"], as_index=False).first()
