"""What a user does, with the rooms put together: run, look, take home, edit, serve.

| to | module |
|---|---|
| run a search | ``run``, with ``options``, ``prepare``, ``ending``, ``publish``; ``dry_run`` |
| look at studies | ``look``, ``report``, ``ui`` |
| export, verify and predict | ``bundles`` |
| make a champion smaller | ``slim`` |
| write and check a space, measure a network | ``new``, ``space``, ``measure`` |
| delete a study, retry its trials | ``edit`` |
| find what is wrong | ``doctor`` |
| serve studies on a cluster | ``jobs``, ``job``, ``local_cluster``, ``deploy`` |
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiq_search.app.bundles import take_home
    from aiq_search.app.doctor import examine
    from aiq_search.app.edit import delete_study, retry_failed
    from aiq_search.app.look import all_studies, find_any
    from aiq_search.app.measure import measure_network
    from aiq_search.app.options import RunOptions
    from aiq_search.app.report import report_study
    from aiq_search.app.result import SearchResult
    from aiq_search.app.run import resume_search, run_search
    from aiq_search.app.slim import slim_champion
    from aiq_search.app.space import checked_space

_HOMES = {
    "RunOptions": "options",
    "SearchResult": "run",
    "all_studies": "look",
    "checked_space": "space",
    "delete_study": "edit",
    "examine": "doctor",
    "find_any": "look",
    "measure_network": "measure",
    "report_study": "report",
    "resume_search": "run",
    "retry_failed": "edit",
    "run_search": "run",
    "slim_champion": "slim",
    "take_home": "bundles",
}

__all__ = [
    "RunOptions",
    "SearchResult",
    "all_studies",
    "checked_space",
    "delete_study",
    "examine",
    "find_any",
    "measure_network",
    "report_study",
    "resume_search",
    "retry_failed",
    "run_search",
    "slim_champion",
    "take_home",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name when it is first used: a command must not wait for what it does not need."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
