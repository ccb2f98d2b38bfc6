"""What killed processes left behind in a study's folder."""

from __future__ import annotations

from pathlib import Path

from aiq_search.search.study import Study

__all__ = ["half_written"]


def half_written(study: Study) -> list[Path]:
    """Files that nobody will finish writing. Hold the study: else their writer may be alive."""
    places = [study.directory.glob("*.part")]
    places += [study.checkpoints.glob(pattern) for pattern in ("*.part", ".probe-*")]
    return [path for place in places for path in place]
