"""An Optuna study that answers in the same time however many trials it has."""

from __future__ import annotations

from collections import deque
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from aiq_search.study.optuna_internals import OpenStudy, trial_id_of

__all__ = ["AskingStudy"]


class AskingStudy(OpenStudy):
    """An Optuna study for the driver, which alone writes to it.

    Optuna looks through every trial for one that waits whenever it is asked, and has no look-up of one
    trial by its number. What the sampler and the pruner look at is their own affair.
    """

    _queue: deque[int] | None = None  # ids of the waiting trials, once they are read

    def enqueue_trial(self, *args: Any, **named: Any) -> None:  # noqa: ANN401
        """As Optuna's."""
        self._queue = None
        super().enqueue_trial(*args, **named)

    def next_waiting(self) -> int | None:
        """Id of the waiting trial that is asked next, set running."""
        if self._queue is None:
            waiting = self.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            self._queue = deque(trial_id_of(trial) for trial in waiting)
        if not self._queue:
            return None
        trial_id = self._queue.popleft()
        self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return trial_id

    def running(self, number: int) -> optuna.Trial:
        """The trial of a number, to be continued."""
        return optuna.Trial(self, self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number))

    def frozen(self, trial: optuna.Trial) -> FrozenTrial:
        """A trial as it is in the storage."""
        return self.storage.get_trial(trial_id_of(trial))
