"""The trainings of studies as rows, and what these say about a cell: means, spreads, paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from aiq_search.app.look import trial_rows
from aiq_search.space.points import space_size
from aiq_search.study import Study, TrialState

__all__ = [
    "NOISE",
    "TEST",
    "TRAIN",
    "Evidence",
    "cells",
    "effect",
    "epochs_of",
    "headline",
    "paired",
    "planned",
    "seeds_of",
    "spread",
    "top",
    "trainings_of",
    "with_origin",
]

TEST = "watch/test/accuracy"
TRAIN = "watch/train/accuracy"
NOISE = "noise"


@dataclass(frozen=True)
class Evidence:
    """The numbers from which a claim is judged.

    Attributes:
        rows: Every training, or every epoch of each.
        measured: Networks measured again, if the claim needs it.
    """

    rows: pd.DataFrame
    measured: pd.DataFrame | None = None


_NOT_WIDTHS = ("model.batch_norm", "model.dropout")
# What a study's rows have that no claim is about, or that differs between two runs.
_LEFT_OUT = ("name", "phase", "number", "state", "value", "feasible", "reason", "seconds", "train_loss")


def trainings_of(studies: Mapping[str, Study]) -> pd.DataFrame:
    """A row for each training that is complete, by the piece that it belongs to."""
    frames = []
    for name, study in studies.items():
        frame = pd.DataFrame(trial_rows(study))
        frame = frame[frame["state"] == str(TrialState.COMPLETE)] if len(frame) else frame
        if len(frame):
            left_out = [c for c in frame if c in _LEFT_OUT or c.startswith("ceiling/") or c.endswith("/aiq")]
            frames.append(with_origin(frame.drop(columns=left_out), name, study))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def epochs_of(studies: Mapping[str, Study]) -> pd.DataFrame:
    """A row for each epoch of each complete training."""
    numbers = ("aiq", "accuracy", "efficiency", "loss", TRAIN, TEST)
    frames = []
    for name, study in studies.items():
        trials = {row["number"]: row["trial"] for row in trial_rows(study)}
        for record in study.records():
            if record.state is not TrialState.COMPLETE:
                continue
            history = {number: record.history[number] for number in numbers if number in record.history}
            frame = pd.DataFrame({"epoch": range(1, record.epochs + 1), **history})
            fixed = {"trial": trials[record.key.number], "replicate": record.replicate, "seed": record.seed}
            fixed |= {NOISE: study.space.dataset.label_noise}
            frames.append(with_origin(frame.assign(**fixed, **record.params), name, study))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def planned(study: Study) -> int:
    """How many trainings a grid has in all."""
    space = study.space
    return min(space.search.trials, int(space_size(space).number) * space.search.replicates)


def with_origin(frame: pd.DataFrame, name: str, study: Study) -> pd.DataFrame:
    """Rows with their piece, the widths of their network, and what made them."""
    fixed = [n for n, value in study.space.model.arguments.items() if type(value) is int]
    searched = [n for n in frame if n.startswith("model.") and n not in _NOT_WIDTHS]
    widths = [frame[n].astype(int).astype(str) for n in searched]
    widths = [pd.Series(str(study.space.model.arguments[n]), frame.index) for n in fixed] + widths
    made = study.document.provenance
    return frame.assign(
        piece=name,
        widths=pd.concat(widths, axis=1).agg("-".join, axis=1),
        version=made.versions.get("aiq-search"),
        torch=made.versions.get("torch"),
        git_commit=(made.git_commit or "")[:12],
    )


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell: means over its seeds, how many these are, and how many collapsed."""
    numbers = ["aiq", "accuracy", "efficiency", TEST, TRAIN, "parameters", "parameters_weights"]
    kept = ["piece", "trial", "widths", *(name for name in rows if name.startswith("model."))]
    groups = rows.groupby(kept, dropna=False, sort=False)
    means = groups[[name for name in numbers if name in rows]].mean()
    collapsed = (rows["aiq"] == 0).groupby([rows[name] for name in kept], dropna=False, sort=False).sum()
    return means.assign(seeds=groups.size(), collapsed=collapsed).reset_index()


def seeds_of(rows: pd.DataFrame, cell: pd.Series, name: str) -> pd.Series:
    """A number of a cell, by the seed that its replicates share with those of other cells."""
    return rows[(rows["piece"] == cell["piece"]) & (rows["trial"] == cell["trial"])].set_index("seed")[name]


def paired(rows: pd.DataFrame, cell: pd.Series, other: pd.Series, name: str) -> pd.Series:
    """By how much a cell has more than another, seed by seed."""
    return (seeds_of(rows, cell, name) - seeds_of(rows, other, name)).dropna()


def spread(numbers: pd.Series, digits: int = 4) -> str:
    """Mean and standard deviation over seeds."""
    if len(numbers) < 2:
        return f"{numbers.mean():.{digits}g} (one seed)"
    return f"{numbers.mean():.{digits}g} ± {numbers.std():.2g} ({len(numbers)} seeds)"


def effect(gained: pd.Series) -> dict[str, float]:
    """Mean of paired differences, and whether it differs from 0 at 5 % (t test): +1, -1 or 0."""
    number = len(gained)
    sd = gained.std() if number > 1 else math.nan
    t = gained.mean() / (sd / math.sqrt(number)) if number > 1 and sd > 0 else 0.0
    sign = int(np.sign(t)) if number > 1 and abs(t) > stats.t.ppf(0.975, number - 1) else 0
    return {"mean": gained.mean(), "sd": sd, "seeds": number, "t": t, "sign": sign}


def headline(rows: pd.DataFrame, cell: pd.Series) -> dict[str, object]:
    """A cell in a table."""
    named = {"aIQ": "aiq", "test accuracy": TEST, "efficiency": "efficiency"}
    return {
        "widths": cell["widths"],
        "parameters": int(cell["parameters"]),
        "weights only": int(cell["parameters_weights"]),
        **{title: spread(seeds_of(rows, cell, name)) for title, name in named.items()},
        "collapsed": int(cell["collapsed"]),
    }


def top(rows: pd.DataFrame, of: pd.DataFrame, number: int = 5) -> pd.DataFrame:
    """The cells of the highest aIQ."""
    best = of.sort_values("aiq", ascending=False).head(number)
    return pd.DataFrame([headline(rows, cell) for _, cell in best.iterrows()])
