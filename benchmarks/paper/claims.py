"""The claims, and the searches from which each is judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiq_search.study import Study, TrialState
from benchmarks.paper import beyond, regularisers, verdicts
from benchmarks.paper.measuring import MODULE, measured
from benchmarks.paper.rows import Evidence, epochs_of, planned, trainings_of
from benchmarks.paper.verdicts import Judgement

__all__ = ["BUDGETS", "CLAIMS", "Claim", "Finding", "Piece", "evidence"]

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
class Measuring:
    """How the networks that a claim's studies keep are measured again; see ``measuring.measured``."""

    points: Sequence[str]
    observations: Sequence[int]
    training: bool
    seeds: int | None = None


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        title: Heading of its section.
        paper: What the paper has, in a sentence.
        rule: When it is reproduced, and when partly; what ``judge`` follows.
        pieces: Its searches.
        judge: What their trainings show.
        by_epoch: Whether the rows are the epochs of trainings rather than trainings.
        measuring: How trained networks are measured again, if they are.
    """

    title: str
    paper: str
    rule: str
    pieces: Sequence[Piece]
    judge: Callable[[Evidence], Judgement]
    by_epoch: bool = False
    measuring: Measuring | None = None


@dataclass(frozen=True)
class Finding:
    """What the trainings of a claim show.

    Attributes:
        claim: The claim.
        evidence: The numbers.
        judgement: What follows from them.
        trained: Of each piece, how many trainings are complete, and how many there will be.
        failed: Of each piece, how many trainings failed: they diverged.
    """

    claim: Claim
    evidence: Evidence
    judgement: Judgement
    trained: Mapping[str, tuple[int, int]]
    failed: Mapping[str, int] = field(default_factory=dict)


def evidence(claim: Claim, studies: Mapping[str, Study], data_dir: Path | None) -> Finding | None:
    """Judge a claim by what its studies have trained so far; None if that is nothing."""
    trainings = trainings_of(studies)
    if not len(trainings):
        return None
    again = claim.measuring
    found = Evidence(
        epochs_of(studies) if claim.by_epoch else trainings,
        None
        if again is None
        else measured(
            studies,
            data_dir,
            points=again.points,
            observations=again.observations,
            training=again.training,
            seeds=again.seeds,
        ),
    )
    done = trainings["piece"].value_counts()
    trained = {name: (int(done.get(name, 0)), planned(study)) for name, study in studies.items()}
    failed = {
        name: sum(record.state is TrialState.FAIL for record in study.records())
        for name, study in studies.items()
    }
    return Finding(claim, found, claim.judge(found), trained, failed)


_LENET_5 = _SPACES / "lenet_5.yaml"
_CHANNELS = "model.conv1 * model.conv2"
_WIDEST = 1024  # of the paper's networks


def _part(*constraints: str) -> tuple[str, ...]:
    """A part of a grid: constraints on its parameters."""
    return (f"objective.constraints={json.dumps(constraints)}",)


def _up_to(width: int, *layers: str) -> tuple[str, ...]:
    """A grid up to another width."""
    return tuple(f"parameters.model.{layer}.high={width}" for layer in layers)


_SURFACE = Piece("lenet-300-100", _SPACES / "lenet_300_100.yaml")
_FASHION = Piece("fashion-300-100", _SPACES / "lenet_300_100.yaml", ("dataset.name=fashion_mnist",))

# The grid of LeNet-5 in parts, which together are the whole of it: few networks take most of its time.
_GRID = [
    Piece("lenet-5-narrow", _LENET_5, _part(f"{_CHANNELS} <= 64")),
    Piece("lenet-5-widest", _LENET_5, _part(f"{_CHANNELS} >= 4096", "model.fc >= 64")),
    Piece("lenet-5-wide", _LENET_5, _part(f"{_CHANNELS} > 64", f"{_CHANNELS} < 4096", "model.fc >= 64")),
    Piece("lenet-5-rest", _LENET_5, _part(f"{_CHANNELS} > 64", "model.fc < 64")),
]

# Of the networks of the paper's widths, the large one of a pair that fits its factor, by itself.
_PAPERS_LARGE = Piece(
    "lenet-5-papers-large",
    _LENET_5,
    (
        *_part("model.conv1 == 16", "model.conv2 == 1024", "model.fc == 1024"),
        *_up_to(_WIDEST, "conv1", "conv2", "fc"),
    ),
)

# Percent of the labels that are randomised: the paper's first.
_NOISES = (75, 0, 50, 25, 90)

CLAIMS = {
    "lenet_300_100": Claim(
        "LeNet-300-100",
        "As the layers of LeNet-300-100 get wider, accuracy rises and efficiency falls, so that narrow "
        "networks have the highest aIQ.",
        "Reproduced: the rank correlation with size is above 0.5 for accuracy and below -0.5 for efficiency. "
        "Partly: above and below 0.",
        [_SURFACE],
        verdicts.surfaces,
    ),
    "size": Claim(
        "Size",
        "The LeNet-5 of the highest aIQ has 30,912 times fewer parameters than the most accurate one, and is "
        "2.32 points less accurate.",
        "Reproduced: at least half the paper's factor, counted in weights, and within a point of its 2.32. "
        "Partly: at least ten times fewer weights, and at most 4.64 points less.",
        [*_GRID, _PAPERS_LARGE],
        verdicts.size,
    ),
    "memorisation": Claim(
        "Memorisation",
        "With 75 % of the training labels randomised, the network of the highest aIQ still has 92.51 % on "
        "the true test labels; wide networks memorise.",
        "Reproduced: at most a point below the paper, at the epoch of the lowest validation loss, and "
        "another network memorises. Partly: at most five points below.",
        [
            Piece(
                f"noise-{percent}", _SPACES / "memorisation.yaml", (f"dataset.label_noise={percent / 100}",)
            )
            for percent in _NOISES
        ],
        verdicts.memorisation,
        by_epoch=True,
    ),
    "regularisers": Claim(
        "Batch norm and dropout",
        "Batch norm and dropout raise the efficiency.",
        "Of each: reproduced if it raises the efficiency in every comparison, partly if it raises it in more "
        "than it lowers it, contradicted if it lowers it in more. The verdict is that of the worse.",
        [
            Piece("regularised-300-100", _SPACES / "regularisers_lenet_300_100.yaml"),
            Piece("regularised-5", _SPACES / "regularisers_lenet_5.yaml"),
            Piece(regularisers.PAPERS_RECIPE, _SPACES / "regularisers_lenet_300_100.yaml"),
        ],
        regularisers.judge,
        measuring=Measuring((MODULE, "activation", "dropout"), (1000, 100), training=True),
    ),
    "beyond": Claim(
        "Beyond the paper",
        "Not in the paper: how rank and champion change with beta, with the number of observations and with "
        "the capture point; whether efficiency predicts the generalisation gap; Fashion-MNIST.",
        "",
        [_SURFACE, _FASHION, _GRID[0]],
        beyond.judge,
        measuring=Measuring((MODULE, "pooling"), (1000, 100), training=False, seeds=1),
    ),
}

# The paper's own recipe.
_PAPERS = (
    "training.learning_rate=0.001",
    "training.schedule=constant",
    "training.epochs=200",
    "training.patience=5",
)
_TO_MEMORISE = ("training.optimizer=sgd", "training.learning_rate=0.001", "training.epochs=200")

# Edits of each piece; what a budget lacks is not run. small is for two cores and two hours; full is the
# paper's grid and recipe, of which its large network is a part and in which every training has its recipe.
BUDGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "small": {
        "lenet-300-100": (*_up_to(128, "hidden1", "hidden2"), "training.epochs=3"),
        "fashion-300-100": (*_up_to(128, "hidden1", "hidden2"), "training.epochs=3"),
        "lenet-5-narrow": (),
        "lenet-5-widest": (),
        "lenet-5-wide": ("search.replicates=3",),
        "lenet-5-rest": ("search.replicates=1",),
        "lenet-5-papers-large": ("search.replicates=3",),
        "regularised-300-100": (),
        "regularised-5": (),
        regularisers.PAPERS_RECIPE: (*_PAPERS, "parameters.model.hidden1.choices=[16, 64]"),
        **{f"noise-{percent}": ("search.replicates=3", "training.epochs=20") for percent in _NOISES},
        "noise-75": ("training.epochs=40",),  # the narrow network still rises at 20
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
