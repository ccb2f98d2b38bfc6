"""The race as a phase of a search: each fresh seed goes to the contender that may be best."""

from __future__ import annotations

from itertools import count

import optuna
from optuna.trial import TrialState as OptunaState

from aiq_search.errors import NothingFeasibleError
from aiq_search.search.ledger import Ledger
from aiq_search.search.proposals import enqueue_confirmations, retries_of
from aiq_search.space import SearchSpace
from aiq_search.study.asking import AskingStudy
from aiq_search.study.events import Phase
from aiq_search.study.race import Race
from aiq_search.study.record import BEGIN, TrialRecord
from aiq_search.study.trials import FINALISTS

__all__ = ["Racing"]


class Racing:
    """Trains contenders on fresh seeds, then the winner on further ones, which report its numbers.

    Who is next follows from the records alone, so any driver continues the race where it is. As soon as a
    worker is free the next seed is given out; seeds in training count as seen, at their expected value.

    Args:
        space: The space; ``confirm.runs`` is the length of the race.
        study: The Optuna study of the confirmations.
        ledger: The finished trials; contenders with a fresh seed are its finalists.
    """

    name = Phase.CONFIRM

    def __init__(self, space: SearchSpace, study: AskingStudy, ledger: Ledger) -> None:
        self._space = space
        self._study = study
        self._ledger = ledger
        self._waiting = 0

    @property
    def total(self) -> int:
        """All trainings once the race is over; until then its length so far, and the winner's seeds."""
        options, trials = self._space.confirm, self._trials()
        if any(trial.user_attrs[BEGIN]["replicate"] >= options.runs for trial in trials):
            return len(trials)
        again = retries_of(self._study)
        return max(options.runs, len(trials) - again) + options.seeds + again

    def take_up(self) -> None:
        """Count what an earlier driver queued."""
        self._waiting = sum(t.state is OptunaState.WAITING for t in self._trials())

    def is_ready(self, *, idle: bool) -> bool:
        """Whether a seed waits or can be given out; all must be idle when a race begins or is won."""
        if self._waiting > 0:
            return True
        if not self._ledger.finalists and not idle:
            return False
        return self._give_out(idle)

    def next_trial(self) -> optuna.Trial:
        """The seed that was queued first."""
        self._waiting -= 1
        trial = self._study.ask()
        self._space.suggest(trial)
        return trial

    def stopped(self, record: TrialRecord) -> None:
        """Do nothing: what comes next follows from the records."""

    def _give_out(self, idle: bool) -> bool:
        """Queue the next seed, or once the race is over the winner's further ones."""
        options, ledger = self._space.confirm, self._ledger
        judging = [t for t in self._trials() if t.user_attrs[BEGIN]["replicate"] < options.runs]
        under_way = [_origin(t) for t in judging if not t.state.is_finished()]
        race = Race(self._space, ledger.explored.values(), ledger.confirmed.values(), under_way)
        contender = race.next()
        entered = {c.trial for c in race.contenders if c.started or c is contender}
        if entered - set(ledger.finalists):
            ledger.finalists = [*ledger.finalists, *sorted(entered - set(ledger.finalists))]
            self._study.set_user_attr(FINALISTS, ledger.finalists)
        if contender is not None:
            given = {t.user_attrs[BEGIN]["replicate"] for t in judging if _origin(t) == contender.trial}
            self._enqueue([(contender.trial, next(r for r in count() if r not in given))])
            return True
        if not idle or not entered:
            return False
        try:
            winner = ledger.champion(self._space).trial
        except NothingFeasibleError:
            return False
        self._enqueue([(winner, seed) for seed in range(options.runs, options.runs + options.seeds)])
        return self._waiting > 0

    def _enqueue(self, wanted: list[tuple[int, int]]) -> None:
        self._waiting = enqueue_confirmations(self._study, self._space, self._ledger.explored, wanted)

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def _origin(trial: optuna.trial.FrozenTrial) -> int:
    """The exploring trial whose configuration a confirmation repeats."""
    return int(trial.user_attrs[BEGIN]["origin"])
