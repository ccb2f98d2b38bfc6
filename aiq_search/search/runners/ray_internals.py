"""What we use of Ray that its documentation does not promise, in one place.

Each function ends in a sentence where a later Ray has changed its names.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.tune.experiment import Trial

__all__ = ["actor_id", "actor_of", "end_trials", "error_file", "is_saving", "release_actors"]


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
