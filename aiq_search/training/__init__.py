"""One network, one data set, one seed: train, validate, measure."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aiq_search.training.options import AugmentOptions, TrainingOptions

if TYPE_CHECKING:
    from aiq_search.training.checkpoint import (
        CheckpointError,
        load_checkpoint,
        load_weights,
        save_checkpoint,
        save_weights,
    )
    from aiq_search.training.evaluation import Evaluation, TensorSplit, evaluate
    from aiq_search.training.run import DivergedError, EpochResult, PartResult, TrainingRun

__all__ = [
    "AugmentOptions",
    "CheckpointError",
    "DivergedError",
    "EpochResult",
    "Evaluation",
    "PartResult",
    "TensorSplit",
    "TrainingOptions",
    "TrainingRun",
    "evaluate",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
    "save_weights",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import torch only for those who train: a search-space file needs the options alone."""
    if name in __all__:
        for module in ("run", "evaluation", "checkpoint"):
            found = importlib.import_module(f"aiq_search.training.{module}")
            if name in found.__all__:
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
