"""Distributed hyperparameter search for the network with the best artificial intelligence quotient."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from aiq_search.app import RunOptions, SearchResult, resume_search, run_search
    from aiq_search.errors import AiqError, InputError, NothingFeasibleError, StudyError
    from aiq_search.space import SearchSpace, load_space
    from aiq_search.statespace import EfficiencyReport, measure
    from aiq_search.study import Study

_HOMES = {
    "AiqError": "errors",
    "EfficiencyReport": "statespace",
    "InputError": "errors",
    "NothingFeasibleError": "errors",
    "RunOptions": "app",
    "SearchResult": "app",
    "SearchSpace": "space",
    "Study": "study",
    "StudyError": "errors",
    "load_space": "space",
    "measure": "statespace",
    "resume_search": "app",
    "run_search": "app",
}

__all__ = [
    "AiqError",
    "EfficiencyReport",
    "InputError",
    "NothingFeasibleError",
    "RunOptions",
    "SearchResult",
    "SearchSpace",
    "Study",
    "StudyError",
    "load_space",
    "measure",
    "resume_search",
    "run_search",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name when it is first used: ``aiq --help`` must not wait for torch."""
    if name == "__version__":
        return importlib.metadata.version("aiq-search")
    if name in _HOMES:
        return getattr(importlib.import_module(f"aiq_search.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
