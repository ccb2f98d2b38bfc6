"""What killed processes left behind in a study's folder."""

from __future__ import annotations

from aiq_search.files import Place
from aiq_search.study.study import Study

__all__ = ["half_written"]


def half_written(study: Study) -> list[Place]:
    """Files that nobody will finish writing. Hold the study: else their writer may be alive."""
    places: list[Place] = list(study.directory.glob("*.part"))
    for pattern in ("*.part", ".probe-*"):
        places += study.checkpoints.glob(pattern)
    return places
