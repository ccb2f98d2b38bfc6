"""The undocumented parts of Ray that its start uses, in one place.

They only save time: where a later Ray has renamed them, it starts as it does by default.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

__all__ = ["WORKER_ENVIRONMENT", "light_start"]

# What Tune sets in its actors' environment: workers that have it from the start can be taken for these.
WORKER_ENVIRONMENT = {"PL_DISABLE_FORK": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0"}


# Parts of a node that serve a dashboard, a cluster that grows, and a log on the driver's terminal: a search
# on one machine has none of these, and each is a Python process that imports Ray.
_UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")

# Modules that a worker imports as soon as it is there, before it has anything to do.
_PRELOAD = "RAY_preload_python_modules"


@contextmanager
def light_start(modules: Sequence[str]) -> Iterator[None]:
    """Let Ray start no more than a search on one machine needs, while the context lasts.

    Args:
        modules: What its workers import while the driver has other things to do.
    """
    from ray._private.node import Node

    with ExitStack() as changes:
        for part in _UNUSED:
            if hasattr(Node, part):
                changes.enter_context(patch.object(Node, part, _nothing))
        os.environ[_PRELOAD] = ",".join(modules)
        changes.callback(os.environ.pop, _PRELOAD, None)
        yield


def _nothing(node: object, **options: object) -> None:
    """Start nothing."""
