"""The claims, and the searches from which each is judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.paper import verdicts
from benchmarks.paper.verdicts import Judgement

__all__ = ["BUDGETS", "CLAIMS", "Claim", "Piece"]

_SPACES = Path(__file__).parents[2] / "search_spaces" / "paper"


@dataclass(frozen=True)
class Piece:
    """One search of a claim: a study of its own, that an interruption does not lose.

    Attributes:
        name: Part of the study's id.
        space: Its search-space file.
        edits: Of the file, ``dotted.key=value``.
    """

    name: str
    space: Path
    edits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        title: Heading of its section.
        paper: What the paper has, in a sentence.
        pieces: Its searches.
        judge: What their trainings show.
    """

    title: str
    paper: str
    pieces: Sequence[Piece]
    judge: Callable[[pd.DataFrame], Judgement]


_LENET_5 = _SPACES / "lenet_5.yaml"
_CHANNELS = "model.conv1 * model.conv2"


def _part(*constraints: str) -> tuple[str, ...]:
    """A part of a grid: constraints on its parameters."""
    return (f"objective.constraints={json.dumps(constraints)}",)


_SURFACE = Piece("lenet-300-100", _SPACES / "lenet_300_100.yaml")
_FASHION = Piece("fashion-300-100", _SPACES / "lenet_300_100.yaml", ("dataset.name=fashion_mnist",))

# The grid of LeNet-5 in parts, which together are the whole of it: few networks take most of its time.
_GRID = [
    Piece("lenet-5-narrow", _LENET_5, _part(f"{_CHANNELS} <= 64")),
    Piece("lenet-5-widest", _LENET_5, _part(f"{_CHANNELS} >= 4096", "model.fc >= 64")),
    Piece("lenet-5-wide", _LENET_5, _part(f"{_CHANNELS} > 64", f"{_CHANNELS} < 4096", "model.fc >= 64")),
    Piece("lenet-5-rest", _LENET_5, _part(f"{_CHANNELS} > 64", "model.fc < 64")),
]

# Percent of the labels that are randomised: the paper's first.
_NOISES = (75, 0, 50, 25, 90)

CLAIMS = {
    "lenet_300_100": Claim(
        "LeNet-300-100",
        "As the layers of LeNet-300-100 get wider, accuracy rises and efficiency falls, so that narrow "
        "networks have the highest aIQ.",
        [_SURFACE],
        verdicts.surfaces,
    ),
    "size": Claim(
        "Size",
        "The LeNet-5 of the highest aIQ has 30,912 times fewer parameters than the most accurate one, and is "
        "2.32 points less accurate.",
        _GRID,
        verdicts.size,
    ),
    "memorisation": Claim(
        "Memorisation",
        "With 75 % of the training labels randomised, the network of the highest aIQ still has 92.51 % on "
        "the true test labels; wide networks memorise.",
        [
            Piece(
                f"noise-{percent}", _SPACES / "memorisation.yaml", (f"dataset.label_noise={percent / 100}",)
            )
            for percent in _NOISES
        ],
        verdicts.memorisation,
    ),
    "regularisers": Claim(
        "Batch norm and dropout",
        "Batch norm and dropout raise the efficiency.",
        [
            Piece("regularised-300-100", _SPACES / "regularisers_lenet_300_100.yaml"),
            Piece("regularised-5", _SPACES / "regularisers_lenet_5.yaml"),
        ],
        verdicts.regularisers,
    ),
}

_PAPERS = (
    "training.learning_rate=0.001",
    "training.schedule=constant",
    "training.epochs=200",
    "training.patience=5",
)
_WIDEST = 1024
_TO_MEMORISE = ("training.optimizer=sgd", "training.learning_rate=0.001", "training.epochs=200")


def _up_to(width: int, *layers: str) -> tuple[str, ...]:
    return tuple(f"parameters.model.{layer}.high={width}" for layer in layers)


# Edits of each piece. small is for two cores and two hours; full is the paper's grid and recipe.
BUDGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "small": {
        "lenet-300-100": (*_up_to(128, "hidden1", "hidden2"), "training.epochs=3"),
        "fashion-300-100": (*_up_to(32, "hidden1", "hidden2"), "training.epochs=3", "search.replicates=3"),
        "lenet-5-narrow": ("search.replicates=3", "training.epochs=2"),
        "lenet-5-widest": ("search.replicates=3", "training.epochs=2"),
        "lenet-5-wide": ("search.replicates=1", "training.epochs=2"),
        "lenet-5-rest": ("search.replicates=1", "training.epochs=2"),
        "regularised-300-100": ("training.epochs=3",),
        "regularised-5": ("training.epochs=2",),
        **{f"noise-{percent}": ("search.replicates=1", "training.epochs=20") for percent in _NOISES},
        "noise-75": ("search.replicates=3", "training.epochs=20"),
    },
    "full": {
        "lenet-300-100": (*_PAPERS, *_up_to(_WIDEST, "hidden1", "hidden2")),
        "fashion-300-100": (*_PAPERS, *_up_to(_WIDEST, "hidden1", "hidden2")),
        **{piece.name: (*_PAPERS, *_up_to(_WIDEST, "conv1", "conv2", "fc")) for piece in _GRID},
        "regularised-300-100": _PAPERS,
        "regularised-5": _PAPERS,
        **{f"noise-{percent}": _TO_MEMORISE for percent in _NOISES},
    },
}
