"""An Optuna study that answers in the same time however many trials it has."""

from __future__ import annotations

from collections import deque
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

__all__ = ["AskingStudy"]


class AskingStudy(optuna.Study):
    """An Optuna study for the driver, which alone writes to it.

    Optuna looks through every trial for one that waits whenever it is asked, and has no look-up of one
    trial by its number. What the sampler and the pruner look at is theirs.
    """

    _queue: deque[int] | None = None  # ids of the trials that wait, where they are known

    def enqueue_trial(self, *args: Any, **named: Any) -> None:  # noqa: ANN401
        """As Optuna's."""
        self._queue = None
        super().enqueue_trial(*args, **named)

    def _pop_waiting_trial_id(self) -> int | None:
        if self._queue is None:
            waiting = self.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            self._queue = deque(trial._trial_id for trial in waiting)
        if not self._queue:
            return None
        trial_id = self._queue.popleft()
        self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return trial_id

    def running(self, number: int) -> optuna.Trial:
        """The trial of a number, to be continued."""
        known = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return optuna.Trial(self, known)

    def frozen(self, trial: optuna.Trial) -> FrozenTrial:
        """What the storage says of a trial."""
        return self._storage.get_trial(trial._trial_id)
