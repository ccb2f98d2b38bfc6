"""A search space: its schema, as a file and in Python, and its translation to Optuna."""

from aiq_search.space.constraint import Constraint
from aiq_search.space.errors import SpaceError
from aiq_search.space.file import load_space
from aiq_search.space.options import (
    ConfirmOptions,
    ModelOptions,
    ObjectiveOptions,
    ResourceOptions,
    SearchOptions,
)
from aiq_search.space.parameters import Categorical, Derived, Float, Int
from aiq_search.space.schema import SearchSpace

__all__ = [
    "Categorical",
    "ConfirmOptions",
    "Constraint",
    "Derived",
    "Float",
    "Int",
    "ModelOptions",
    "ObjectiveOptions",
    "ResourceOptions",
    "SearchOptions",
    "SearchSpace",
    "SpaceError",
    "load_space",
]
