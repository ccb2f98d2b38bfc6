"""What a search found, and how it is announced."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from aiq_search.app.summary import ResultSummary
from aiq_search.errors import AiqError, NothingFeasibleError
from aiq_search.study import (
    Champion,
    Event,
    ParetoFront,
    Phase,
    PhaseStarted,
    Study,
    TrialRecord,
    front_of,
    most_accurate,
)
from aiq_search.study.chance import chance_problem
from aiq_search.study.document import Ended
from aiq_search.study.reference import Comparison, comparison_of

if TYPE_CHECKING:
    import pandas as pd

    from aiq_search.app.prepare import PreparedStudy
    from aiq_search.tracking import Undelivered

__all__ = ["Announce", "ChampionAnnouncer", "SearchResult", "failure_of"]

# Is given what a search found, once its champion is known and once it is over.
Announce: TypeAlias = "Callable[[SearchResult], None]"


@dataclass(frozen=True)
class SearchResult:
    """What a search found; as text, and in a notebook, the champion with its numbers, and the finalists.

    Attributes:
        study: The study, to look further.
        champion: The chosen configuration; None where nothing is feasible.
        reason: finished, interrupted or failed.
        message: A sentence, where there is no champion or the search stopped by itself.
        undelivered: What MLflow has not received.
        notes: Sentences about what was repaired or left out.
        final: Whether the study is over: the champion is announced before the reference network is trained.
        signal: The signal that stopped the search before its end, if one did.
    """

    study: Study
    champion: Champion | None
    reason: Ended
    message: str | None = None
    undelivered: Undelivered | None = None
    notes: tuple[str, ...] = ()
    final: bool = True
    signal: int | None = None

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial."""
        return self.study.records()

    @property
    def most_accurate(self) -> TrialRecord | None:
        """The most accurate of the exploring trials."""
        return most_accurate(self.study.records(Phase.EXPLORE))

    @property
    def comparison(self) -> Comparison | None:
        """The champion beside the reference network; None where it is the most accurate itself."""
        return comparison_of(self.study)

    def __repr__(self) -> str:
        return ResultSummary.of(self).text()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return ResultSummary.of(self).html()

    def pareto_front(self) -> ParetoFront:
        """The trials that no other beats in every objective, in accuracy and efficiency if there is one."""
        return front_of(self.study)

    @property
    def trials(self) -> pd.DataFrame:
        """Every trial as a row: name, state, value, metrics, parameters."""
        import pandas as pd

        from aiq_search.app.look import trial_rows

        return pd.DataFrame(trial_rows(self.study))


class ChampionAnnouncer:
    """A listener that announces the champion before the reference network is trained."""

    def __init__(self, prepared: PreparedStudy, announce: Announce | None) -> None:
        self._prepared = prepared
        self._announce = announce

    def on_event(self, event: Event) -> None:
        """Announce the champion once."""
        if self._announce is None or not isinstance(event, PhaseStarted):
            return
        if event.phase is Phase.REFERENCE:
            announce, self._announce = self._announce, None
            study = self._prepared.study
            notes = tuple(self._prepared.notes)
            result = SearchResult(study, study.champion(), "interrupted", notes=notes, final=False)
            with suppress(OSError):  # the search goes on where the terminal is gone
                announce(result)


def failure_of(result: SearchResult) -> AiqError | None:
    """The error that a search amounts to, if it does."""
    if result.reason == "failed":
        return AiqError(result.message or "the search failed.")
    if result.reason == "finished" and result.champion is None:
        return NothingFeasibleError(result.message or "nothing feasible.")
    if result.reason == "finished" and result.champion is not None:
        problem = chance_problem(result.study.document, result.champion)
        return None if problem is None else NothingFeasibleError(problem)
    return None
