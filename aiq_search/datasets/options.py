"""The ``dataset`` section of a search-space file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DatasetOptions"]

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, lt=2**63)]


class DatasetOptions(BaseModel):
    """Which data, and how they are split.

    Attributes:
        name: A name of ``DATASETS``, the path of an ``.npz``, or ``package.module:function``.
        validation: Size of the validation split, taken from the training data: a number of samples
            or a fraction of them. Ignored by a source that brings its own.
        test: Size of the test split, for a source that has none of its own.
        split_seed: Fixes which samples go where, and which labels are randomised.
        label_noise: Fraction of the training labels replaced by uniformly random ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=4096)
    validation: Count | Fraction = 0.15
    test: Count | Fraction = 0.2
    split_seed: int = Field(default=0, ge=0, lt=2**63)
    label_noise: float = Field(default=0.0, ge=0, le=1)
