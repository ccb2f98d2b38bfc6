"""The end of a study, told again from what its storage knows."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress

from aiq_search.errors import NothingFeasibleError
from aiq_search.study import Study, StudyEnded

__all__ = ["end_of"]


def end_of(study: Study) -> StudyEnded:
    """The event that the study's last driver emitted, or would have emitted had it lived."""
    ended = study.document.ended
    champion = None
    with suppress(NothingFeasibleError):
        champion = study.champion().document()
    interrupted = "the driver ended without a word; `aiq resume` continues the study"
    return StudyEnded(
        study.id,
        ended or "interrupted",
        time.time(),
        dict(Counter(str(record.state) for record in study.records())),
        champion=champion,
        message=None if ended else interrupted,
        finalists=tuple(study.finalists),
    )
