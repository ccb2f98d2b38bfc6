"""The claims, and the searches from which each is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.paper import verdicts
from benchmarks.paper.verdicts import Judgement

__all__ = ["BUDGETS", "CLAIMS", "Claim", "Piece"]

_SPACES = Path(__file__).parents[2] / "search_spaces" / "paper"

# The paper's own recipe, and its widest network.
_PAPERS = ("training.learning_rate=0.001", "training.epochs=200", "training.patience=5")
_WIDEST = 1024


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


CLAIMS = {
    "size": Claim(
        "Size",
        "The LeNet-5 of the highest aIQ has 30,912 times fewer parameters than the most accurate one, and is "
        "2.32 points less accurate.",
        [Piece("lenet-5", _SPACES / "lenet_5.yaml")],
        verdicts.size,
    ),
    "lenet_300_100": Claim(
        "LeNet-300-100",
        "As the layers of LeNet-300-100 get wider, accuracy rises and efficiency falls, so that narrow "
        "networks have the highest aIQ.",
        [Piece("lenet-300-100", _SPACES / "lenet_300_100.yaml")],
        verdicts.surfaces,
    ),
    "regularisers": Claim(
        "Batch norm and dropout",
        "Batch norm and dropout raise the efficiency.",
        [
            Piece("lenet-5", _SPACES / "regularisers_lenet_5.yaml"),
            Piece("lenet-300-100", _SPACES / "regularisers_lenet_300_100.yaml"),
        ],
        verdicts.regularisers,
    ),
    "memorisation": Claim(
        "Memorisation",
        "With 75 % of the training labels randomised, the network of the highest aIQ still has 92.51 % on "
        "the true test labels; wide networks memorise.",
        [
            Piece(
                f"noise-{percent}", _SPACES / "memorisation.yaml", (f"dataset.label_noise={percent / 100}",)
            )
            for percent in (0, 25, 50, 75, 90)
        ],
        verdicts.memorisation,
    ),
}

# Edits of every piece of a claim. small is for two cores and a night; full is the paper's grid and recipe.
BUDGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "small": {
        "size": ("search.replicates=3", "training.epochs=4"),
        "lenet_300_100": (),
        "regularisers": (),
        "memorisation": ("search.replicates=3",),
    },
    "full": {
        "size": (
            *_PAPERS,
            *(f"parameters.{name}.high={_WIDEST}" for name in ("model.conv1", "model.conv2", "model.fc")),
        ),
        "lenet_300_100": (
            *_PAPERS,
            *(f"parameters.{name}.high={_WIDEST}" for name in ("model.hidden1", "model.hidden2")),
        ),
        "regularisers": _PAPERS,
        "memorisation": ("training.learning_rate=0.001", "training.epochs=200"),
    },
}
