"""The finished trials of a study, and the totals that its phases need."""

from __future__ import annotations

from collections import Counter

from aiq_search.space import ObjectiveOptions, SearchSpace
from aiq_search.study.champion import Champion, choose_champion, judge_finalists
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.finalists import Verdict, verdicts
from aiq_search.study.progress import Best
from aiq_search.study.record import TrialRecord
from aiq_search.study.reference import Comparison, compare

__all__ = ["Ledger"]


class Ledger:
    """Finished trials, counted as they end: a study may have too many to look through each time.

    Args:
        objective: What is searched for.

    Attributes:
        finalists: Numbers of the exploring trials under confirmation; empty while exploring.
        explored: Exploring trials by number.
        confirmed: Confirmations by number.
        referenced: Trials of the reference phase by number.
        asked: Exploring trials that are part of the budget: all but failures run again.
        trained: Exploring trials that were trained and not run again.
        failed: Those of ``trained`` that failed.
    """

    def __init__(self, objective: ObjectiveOptions) -> None:
        self.finalists: list[int] = []
        self._of: dict[Phase, dict[int, TrialRecord]] = {phase: {} for phase in Phase}
        self.explored, self.confirmed, self.referenced = self._of.values()
        self.asked = self.trained = self.failed = 0
        self._best: Best[TrialRecord] = Best(objective)
        self._known: dict[str, TrialRecord] = {}

    @property
    def best(self) -> TrialRecord | None:
        """The best exploring trial so far."""
        return self._best.trial

    @property
    def since_best(self) -> int:
        """How many exploring trials ended after it."""
        return self._best.since

    def of(self, phase: Phase) -> dict[int, TrialRecord]:
        """Finished trials of a phase by number."""
        return self._of[phase]

    def champion(self, space: SearchSpace) -> Champion:
        """The champion so far.

        Raises:
            NothingFeasibleError: No configuration meets the constraints.
        """
        return choose_champion(
            space, list(self.explored.values()), list(self.confirmed.values()), self.finalists
        )

    def comparison(self, champion: Champion) -> Comparison | None:
        """The champion beside the reference network, as far as it is known."""
        return compare(champion, *(list(records.values()) for records in self._of.values()))

    def verdicts(self, space: SearchSpace, champion: Champion | None) -> list[Verdict]:
        """How each finalist came out so far."""
        explored, confirmed = list(self.explored.values()), list(self.confirmed.values())
        return verdicts(space, champion, judge_finalists(space, explored, confirmed, self.finalists))

    def known(self, config_hash: str) -> TrialRecord | None:
        """The first result of a configuration; none where it failed, for it may work the next time."""
        return self._known.get(config_hash)

    def counts(self) -> Counter[str]:
        """How many trials of all phases have each final state."""
        return Counter(str(r.state) for records in self._of.values() for r in records.values())

    def add(self, record: TrialRecord) -> None:
        """Note a finished trial; a failure before the trial that runs it again."""
        self.of(record.key.phase)[record.key.number] = record
        if record.key.phase is not Phase.EXPLORE:
            return
        if record.retry_of is None:
            self.asked += 1
        else:  # it replaces one that failed
            self.trained -= 1
            self.failed -= 1
        if record.copied_from is None:
            self.trained += 1
            self.failed += record.state is TrialState.FAIL
        if record.state is not TrialState.FAIL:
            self._known.setdefault(record.config_hash, record)
        self._best.add(record)
