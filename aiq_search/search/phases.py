"""The phases of a search: each knows which trial comes next, and when none is left to start.

The driver asks its phases in order before each assignment. To add one, write a class like these and list it
in ``StudyDriver``; what it has to know of the finished trials is in the ``Ledger``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import optuna

from aiq_search.errors import NothingFeasibleError
from aiq_search.search.ledger import Ledger
from aiq_search.search.proposals import Proposals, enqueue_confirmations, retries_of
from aiq_search.search.trials import LiveTrials
from aiq_search.space import SearchSpace
from aiq_search.study.asking import AskingStudy
from aiq_search.study.champion import name_finalists
from aiq_search.study.events import Phase
from aiq_search.study.record import BEGIN, TrialRecord
from aiq_search.study.study import EXPLORED_SECONDS, FINALISTS

__all__ = ["Confirming", "Exploring", "SearchPhase"]


class SearchPhase(Protocol):
    """What the driver asks of a phase.

    Attributes:
        name: Of the Optuna study that holds its trials.
    """

    name: Phase

    @property
    def total(self) -> int:
        """How many trials it has, as far as is known now."""

    def take_up(self) -> None:
        """Bring the queue to where it should be, whatever happened to earlier drivers."""

    def is_ready(self, *, idle: bool) -> bool:
        """Whether a trial may begin now.

        Args:
            idle: No trial of any phase is in training: every result that this decision may need is there.
        """

    def next_trial(self) -> optuna.Trial | None:
        """The next trial to train, with its ``BEGIN`` attribute; ask only while the phase is ready.

        Returns:
            None where nothing has to be trained after all.
        """

    def stopped(self, record: TrialRecord) -> None:
        """Take note of a trial of this phase that has ended, or was put aside."""


class Exploring:
    """Tries configurations until the budget or a stopping rule ends it, or finalists are named.

    Args:
        space: The space.
        study: The Optuna study of the exploring trials.
        ledger: The finished trials.
        trials: Those in training.
        clock: Unix time, in seconds.
    """

    name = Phase.EXPLORE

    def __init__(
        self,
        space: SearchSpace,
        study: AskingStudy,
        ledger: Ledger,
        trials: LiveTrials,
        clock: Callable[[], float],
    ) -> None:
        self._space = space
        self._study = study
        self._ledger = ledger
        self._trials = trials
        self._clock = clock
        self._proposals = Proposals(space, study)
        self._budget = space.search.trials
        self._began = clock()
        # Drawn while the same configuration is in training, by its hash: they share its result.
        self._duplicates: defaultdict[str, list[tuple[optuna.Trial, dict[str, Any]]]] = defaultdict(list)

    @property
    def total(self) -> int:
        """The budget, and failed trials that are run again."""
        return self._budget + retries_of(self._study)

    def take_up(self) -> None:
        """Queue what has to be tried first, and what an earlier driver asked for and did not begin."""
        # As if exploring had begun so long ago as all drivers together have explored.
        self._began = self._clock() - self._study.user_attrs.get(EXPLORED_SECONDS, 0.0)
        self._proposals.finish_asking()
        self._budget = self._proposals.take_up(self._budget)

    def is_ready(self, *, idle: bool = False) -> bool:
        """Whether another configuration may be asked for."""
        if self._proposals.owed:
            return True
        return not (self._ledger.finalists or self._spent() or self._satisfied())

    def _spent(self) -> bool:
        """Whether the trials or the hours are used up."""
        options = self._space.search
        asked = self._ledger.asked + sum(record.retry_of is None for record in self._trials.exploring())
        asked += sum(map(len, self._duplicates.values()))
        hours = options.max_hours
        return asked >= self._budget or (hours is not None and self._clock() - self._began > hours * 3600)

    def _satisfied(self) -> bool:
        """Whether the best trial is good enough, or was not improved for long enough."""
        options = self._space.search
        if options.no_improvement is not None and self._ledger.since_best >= options.no_improvement:
            return True
        best = self._ledger.best
        if options.target is None or best is None or best.value is None:
            return False
        _, direction = self._space.objective.directions[0]
        return best.value >= options.target if direction == "maximize" else best.value <= options.target

    def next_trial(self) -> optuna.Trial | None:
        """Draw until a configuration has to be trained; None when the budget is used up."""
        while self.is_ready():
            trial, begin = self._proposals.draw()
            if BEGIN not in trial.user_attrs:
                known = self._space.search.duplicates == "known_result" and "replicate" not in begin
                if known and self._has_result(trial, begin):
                    continue
                trial.set_user_attr(BEGIN, begin)
            return trial
        return None

    def _has_result(self, trial: optuna.Trial, begin: dict[str, Any]) -> bool:
        """End a trial whose configuration has a result, or let it wait for the result to come.

        One that waits has not begun: a later driver finds it as if it had just been drawn.
        """
        config_hash = begin["config_hash"]
        source = self._ledger.known(config_hash)
        if source is not None:
            self._trials.copy(trial, begin, source)
            return True
        waits = any(record.config_hash == config_hash for record in self._trials.exploring())
        if waits:
            self._duplicates[config_hash].append((trial, begin))
        return waits

    def stopped(self, record: TrialRecord) -> None:
        """Write down how much of ``search.max_hours`` is used up, and release who waited for the result."""
        if self._space.search.max_hours is not None:
            self._study.set_user_attr(EXPLORED_SECONDS, self._clock() - self._began)
        if record.finished:
            for trial, begin in self._duplicates.pop(record.config_hash, ()):
                self._proposals.put_back(trial, begin)  # for its result, or to be trained if this one failed


class Confirming:
    """Trains the finalists on fresh seeds, then the winner on further ones, which report its numbers.

    Args:
        space: The space.
        study: The Optuna study of the confirmations.
        ledger: The finished trials; the finalists are written there.
    """

    name = Phase.CONFIRM

    def __init__(self, space: SearchSpace, study: AskingStudy, ledger: Ledger) -> None:
        self._space = space
        self._study = study
        self._ledger = ledger
        self._waiting = 0

    @property
    def total(self) -> int:
        """All seeds of the finalists, the winner's further ones, and failed trials that are run again."""
        return (len(self._ledger.finalists) + 1) * self._space.confirm.seeds + retries_of(self._study)

    def take_up(self) -> None:
        """Count what an earlier driver queued."""
        if self._ledger.finalists:
            self._waiting = self._enqueue([])

    def is_ready(self, *, idle: bool) -> bool:
        """Whether confirmations wait, or follow from the results of those before, once all are there."""
        return self._waiting > 0 or (idle and self._plan())

    def next_trial(self) -> optuna.Trial:
        """The confirmation that was queued first."""
        self._waiting -= 1
        trial = self._study.ask()
        self._space.suggest(trial)
        return trial

    def stopped(self, record: TrialRecord) -> None:
        """Nothing: what follows is planned once all have ended."""

    def _plan(self) -> bool:
        """Queue the next confirmations; False where nothing is left to do."""
        options, ledger = self._space.confirm, self._ledger
        if options.finalists == 0:
            return False
        if not ledger.finalists:
            finalists = name_finalists(self._space, ledger.explored, list(ledger.confirmed.values()))
            if not finalists:
                return False
            ledger.finalists = finalists
            self._study.set_user_attr(FINALISTS, finalists)
        wanted = [(n, seed) for seed in range(options.seeds) for n in ledger.finalists]
        self._waiting = self._enqueue(wanted)
        if self._waiting == 0:
            try:
                winner = ledger.champion(self._space).trial
            except NothingFeasibleError:
                return False
            wanted += [(winner, seed) for seed in range(options.seeds, 2 * options.seeds)]
            self._waiting = self._enqueue(wanted)
        return self._waiting > 0

    def _enqueue(self, wanted: Sequence[tuple[int, int]]) -> int:
        return enqueue_confirmations(self._study, self._space, self._ledger.explored, wanted)
