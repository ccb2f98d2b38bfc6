"""A search-space file: its schema, and its translation to Optuna."""

from aiq_search.space.constraint import Constraint
from aiq_search.space.errors import SpaceError
from aiq_search.space.file import load_space
from aiq_search.space.schema import (
    ConfirmOptions,
    ModelOptions,
    ObjectiveOptions,
    ResourceOptions,
    SearchOptions,
    SearchSpace,
)

__all__ = [
    "ConfirmOptions",
    "Constraint",
    "ModelOptions",
    "ObjectiveOptions",
    "ResourceOptions",
    "SearchOptions",
    "SearchSpace",
    "SpaceError",
    "load_space",
]
