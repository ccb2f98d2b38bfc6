"""The end of a study, as an event made from what its storage knows."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress

from aiq_search.errors import NothingFeasibleError
from aiq_search.study.events import StudyEnded
from aiq_search.study.finalists import verdicts_of
from aiq_search.study.reference import comparison_of
from aiq_search.study.view import StudyView

__all__ = ["end_of"]


def end_of(study: StudyView) -> StudyEnded:
    """The event that the study's last driver emitted, or would have emitted if it had not died."""
    ended = study.document.ended
    champion = None
    with suppress(NothingFeasibleError):
        champion = study.champion().document()
    comparison = comparison_of(study)
    return StudyEnded(
        study.id,
        ended or "interrupted",
        time.time(),
        dict(Counter(str(record.state) for record in study.records())),
        champion=champion,
        message=None if ended else "the driver died; `aiq resume` continues the study",
        finalists=tuple(study.finalists),
        verdicts=tuple(verdict.document() for verdict in verdicts_of(study)),
        comparison=None if comparison is None else comparison.document(),
    )
