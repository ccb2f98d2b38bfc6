"""The ``training`` section of a search-space file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AugmentOptions", "TrainingOptions"]


class AugmentOptions(BaseModel):
    """How the training samples are changed at random, each time they are learnt from.

    All but mixup are for images (C, H, W). What is moved in from outside an image, and what is erased, is 0
    in the data as they are stored.

    Attributes:
        shift: Largest shift in each direction, as a share of the side.
        rotation: Largest angle, in degrees, either way.
        flip: Probability of a mirror image, left to right.
        crop: Largest share of the area that is cut away; the rest, anywhere in the image, is resized.
        erase: Probability that a rectangle is set to 0 (Zhong et al., 2020).
        mixup: Alpha of the beta distribution from which the share of another sample, and of the loss with its
            label, is drawn for a batch (Zhang et al., 2018); 0: none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    shift: float = Field(default=0.0, ge=0, le=1)
    rotation: float = Field(default=0.0, ge=0, le=180)
    flip: float = Field(default=0.0, ge=0, le=1)
    crop: float = Field(default=0.0, ge=0, lt=1)
    erase: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0)


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
        schedule: constant, cosine (to 0 over all epochs, epoch by epoch; Loshchilov and Hutter, 2017), or
            one_cycle (from a 25th up to ``learning_rate`` in the first 30 % of the steps, then down to 0;
            Smith and Topin, 2018).
        warmup: Epochs, or a share of one, in which the step size rises from 0 to that of the schedule.
        gradient_clipping: Largest norm of the gradient of all parameters; a longer one is shortened.
        label_smoothing: Share of the label that is spread evenly over all classes (Szegedy et al., 2016).
        class_weights: none, or balanced: a sample counts the more, the rarer its class is.
        augment: How the samples are changed at random.
        patience: Epochs without a lower validation loss before training stops; none: never.
        device: auto takes a GPU where the trial has one.
        engine: What trains and measures. torch supports any network; compiled supports sequences of common
            layers, on one CPU core, and is several times faster; auto is compiled for networks that it
            supports, torch for all others and on a GPU.
        cuda_graphs: Whether a GPU takes a training step as one CUDA graph, launched once, rather than kernel
            by kernel.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: int = Field(default=10, ge=1, le=1_000_000)
    batch_size: int = Field(default=200, ge=1, le=2**31 - 1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.02, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=0.0005, ge=0)
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    warmup: float = Field(default=0.0, ge=0, le=1_000_000)
    gradient_clipping: float | None = Field(default=None, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    augment: AugmentOptions = AugmentOptions()
    patience: int | None = Field(default=5, ge=1, le=1_000_000)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "torch", "compiled"] = "auto"
    cuda_graphs: bool = False
