"""One network, one data set, one seed: train, validate, measure."""

from aiq_search.training.checkpoint import load_checkpoint, save_checkpoint
from aiq_search.training.evaluation import Evaluation, evaluate
from aiq_search.training.options import TrainingOptions
from aiq_search.training.run import DivergedError, EpochResult, TrainingRun

__all__ = [
    "DivergedError",
    "EpochResult",
    "Evaluation",
    "TrainingOptions",
    "TrainingRun",
    "evaluate",
    "load_checkpoint",
    "save_checkpoint",
]
