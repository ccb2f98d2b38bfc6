"""How the best network of a study improved: a curve on the study's run."""

from __future__ import annotations

from aiq_search.space import ObjectiveOptions
from aiq_search.study.events import TrialEnded
from aiq_search.study.progress import Best
from aiq_search.tracking.layout import Point, best_points
from aiq_search.tracking.outbox import Outbox

__all__ = ["BestCurve"]

_WRITTEN = "best"  # the fact that holds the last step that is in MLflow


class BestCurve:
    """The curve of the best trial so far, drawn from the ends of trials in the outbox.

    Each end is read once, so that a trial costs the same however many went before.

    Args:
        outbox: Of the study.
        objective: What is searched for.
    """

    def __init__(self, outbox: Outbox, objective: ObjectiveOptions) -> None:
        self._outbox = outbox
        self._objective = objective
        self._best: Best[TrialEnded] = Best(objective)
        self._row = 0  # of the last end that was read
        self._points: list[Point] = []  # that MLflow may lack

    @property
    def trial(self) -> int | None:
        """Number of the best trial; None before there is one."""
        self._read()
        return self._best.trial.key.number if self._best.trial else None

    def missing(self) -> list[Point]:
        """The points that MLflow lacks."""
        self._read()
        written = self._outbox.number(_WRITTEN) or 0
        self._points = [point for point in self._points if point.step > written]
        return list(self._points)

    def wrote(self, points: list[Point]) -> None:
        """Remember that these points are in MLflow."""
        self._outbox.remember(_WRITTEN, str(points[-1].step))

    def restart(self) -> None:
        """Draw the curve from its beginning: the study's run is a new one."""
        self._outbox.remember(_WRITTEN, None)
        self._best, self._row, self._points = Best(self._objective), 0, []

    def _read(self) -> None:
        for letter in self._outbox.history(TrialEnded, after=self._row):
            self._row = letter.row
            if isinstance(letter.event, TrialEnded) and self._best.add(letter.event):
                self._points += best_points(letter.event, self._best.ended)
