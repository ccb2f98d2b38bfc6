"""Distributed hyperparameter search for the network with the best artificial intelligence quotient (aIQ).

**A space** says what is searched: a file (``aiq new`` writes one), a shipped one by name, or Python objects.

    >>> from aiq_search import Float, Int, SearchSpace
    >>> space = SearchSpace(
    ...     name="tiny",
    ...     model="mlp",
    ...     dataset="digits",
    ...     parameters={
    ...         "model.hidden1": Int(2, 64, log=True),
    ...         "training.learning_rate": Float(5e-3, 1e-1, log=True),
    ...     },
    ...     search={"trials": 20},
    ... )

``space.to_yaml()`` is the text of its file, which ``aiq search`` takes as well.

**A search** trains trials, races the best on fresh seeds, and measures the champion on the test split:

    result = run_search(space)              # or run_search("digits"), run_search("mine.yaml")
    result                                  # in a notebook: the champion and the finalists
    result.champion.params                  # {'model.hidden1': 9, ...}
    result.champion.test["aiq"]             # mean and standard deviation over fresh seeds
    result.trials.sort_values("aiq")        # every trial, as a pandas frame

Trials train in parallel on Ray; ``run_search(space, runner="in_process")`` does without. ``resume_search``
continues an interrupted study.

**A study** is what a search leaves behind in the folder ``.aiq`` (or ``AIQ_HOME``):

    study = Study.open("tiny")              # a study's id, or a space's name for its newest study
    study.champion()
    study.records()                         # every trial, with its metrics by epoch
    study.load(Phase.EXPLORE)               # an Optuna study, for Optuna's own tools

**Any network**: ``measure(model, batches)`` gives the efficiency of a PyTorch module's layers, and its aIQ.

What you got wrong raises an ``InputError``, whose message says what to do. From a shell: ``aiq --help``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from aiq_search.app import RunOptions, SearchResult, resume_search, run_search
    from aiq_search.datasets import DatasetOptions
    from aiq_search.errors import AiqError, InputError, NothingFeasibleError, StudyError
    from aiq_search.space import (
        Categorical,
        ConfirmOptions,
        Derived,
        Float,
        Int,
        ModelOptions,
        ObjectiveOptions,
        ResourceOptions,
        SearchOptions,
        SearchSpace,
        load_space,
    )
    from aiq_search.statespace import EfficiencyReport, measure
    from aiq_search.study import Champion, Phase, Study, TrialRecord
    from aiq_search.training import TrainingOptions

# By use: search, what a search found, what is searched, measure, what goes wrong.
__all__ = [  # noqa: RUF022
    "run_search",
    "resume_search",
    "RunOptions",
    "SearchResult",
    "Study",
    "Champion",
    "TrialRecord",
    "Phase",
    "SearchSpace",
    "load_space",
    "Int",
    "Float",
    "Categorical",
    "Derived",
    "ModelOptions",
    "DatasetOptions",
    "ObjectiveOptions",
    "SearchOptions",
    "TrainingOptions",
    "ConfirmOptions",
    "ResourceOptions",
    "measure",
    "EfficiencyReport",
    "AiqError",
    "InputError",
    "StudyError",
    "NothingFeasibleError",
]

_HOMES = {
    "app": ["RunOptions", "SearchResult", "resume_search", "run_search"],
    "datasets": ["DatasetOptions"],
    "errors": ["AiqError", "InputError", "NothingFeasibleError", "StudyError"],
    "space": [
        *("Categorical", "Derived", "Float", "Int", "SearchSpace", "load_space"),
        *("ConfirmOptions", "ModelOptions", "ObjectiveOptions", "ResourceOptions", "SearchOptions"),
    ],
    "statespace": ["EfficiencyReport", "measure"],
    "study": ["Champion", "Phase", "Study", "TrialRecord"],
    "training": ["TrainingOptions"],
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name when it is first used: ``aiq --help`` must not wait for torch."""
    if name == "__version__":
        return importlib.metadata.version("aiq-search")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"aiq_search.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names: for completion, before any of them is imported."""
    return sorted({*globals(), *__all__, "__version__"})
