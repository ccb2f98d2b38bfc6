"""The ``training`` section of a search-space file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TrainingOptions"]


class TrainingOptions(BaseModel):
    """How a network is trained.

    The defaults are the paper's, but for the learning rate: with its 0.001, sgd learns little in 10 epochs.

    Attributes:
        epochs: How often the training split is gone through, at most.
        batch_size: Samples a step.
        optimizer: sgd, adam or adamw.
        learning_rate: Step size at the start.
        momentum: Of sgd.
        nesterov: Whether sgd looks ahead (Nesterov, 1983).
        weight_decay: L2 penalty (sgd, adam) or decoupled decay (adamw).
        schedule: constant, or cosine (to 0 over all epochs; Loshchilov and Hutter, 2017).
        patience: Epochs without a lower validation loss before training stops; none: never.
        device: auto takes a GPU where the trial has one.
        engine: What trains and measures. torch supports any network; compiled supports sequences of common
            layers, on one CPU core, and is several times faster; auto is compiled for networks that it
            supports, torch for all others and on a GPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: int = Field(default=10, ge=1, le=1_000_000)
    batch_size: int = Field(default=200, ge=1, le=2**31 - 1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.02, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=0.0005, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    patience: int | None = Field(default=5, ge=1, le=1_000_000)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "torch", "compiled"] = "auto"
