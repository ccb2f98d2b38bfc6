"""The undocumented parts of Ray that we use, in one place.

Each function fails with a clear message if a later Ray has renamed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import ray
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

__all__ = [
    "actor_id",
    "actor_of",
    "end_trials",
    "error_file",
    "is_saving",
    "release_actors",
    "waiting_workers",
]


@contextmanager
def waiting_workers() -> Iterator[None]:
    """Let Tune's actors take the workers that wait already, while the context lasts.

    Tune gives its actors variables of the driver's environment, and Ray starts further workers for those. On
    a cluster that the driver started, every worker has them already.
    """
    with ExitStack() as changes:
        for name in ("DEFAULT_ENV_VARS", "ENV_VARS_TO_PROPAGATE"):
            if hasattr(class_cache, name):
                changes.enter_context(patch.object(class_cache, name, {}))
        yield


def actor_of(trial: Trial) -> Any:  # noqa: ANN401
    """The actor that trains a trial; None where none does."""
    return _named(trial, "temporary_state.ray_actor")


def actor_id(actor: Any) -> str:  # noqa: ANN401
    """An actor's number, as Ray's messages write it."""
    return str(_named(actor, "_actor_id.hex")())


def is_saving(trial: Trial) -> bool:
    """Whether a trial is being put aside."""
    return bool(_named(trial, "is_saving"))


def error_file(trial: Trial) -> str | None:
    """The file on this machine with a trial's error; Tune's ``get_error`` looks for it in the storage."""
    path = _named(trial, "error_file")
    return None if path is None else str(path)


def end_trials(controller: Any) -> None:  # noqa: ANN401
    """Let Tune end every trial and actor that it has."""
    _named(controller, "cleanup")()


def release_actors(controller: Any) -> None:  # noqa: ANN401
    """Give back what Tune holds of the cluster, so that the next Tuner can have it."""
    _named(controller, "_actor_manager.cleanup")()


def _named(owner: Any, path: str) -> Any:  # noqa: ANN401
    value = owner
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise RuntimeError(
                f"Ray {ray.__version__} has no {type(owner).__name__}.{path}, which aiq_search uses: install "
                'a Ray that pyproject.toml allows (pip install "ray<3"), or adapt ray_internals.py.'
            ) from None
    return value
