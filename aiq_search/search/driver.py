"""The driver of a study: decides which trial is trained next, records its result, and notifies the listeners.

It is independent of Ray: assignments go out, reports come in. Each of its decisions is in the study's
storage before any listener sees it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import optuna

from aiq_search.errors import NothingFeasibleError
from aiq_search.search.ledger import Ledger
from aiq_search.search.phases import Confirming, Exploring, SearchPhase
from aiq_search.search.prices import with_prices
from aiq_search.search.pruners import create_pruner
from aiq_search.search.racing import Racing
from aiq_search.search.reference import ReferencePhase
from aiq_search.search.samplers import create_sampler
from aiq_search.search.trials import LiveTrials
from aiq_search.study.champion import Champion
from aiq_search.study.events import (
    Event,
    HistoryListener,
    Phase,
    PhaseStarted,
    StudyEnded,
    StudyListener,
    StudyStarted,
    TrialKey,
    TrialState,
)
from aiq_search.study.record import TrialRecord
from aiq_search.study.study import Study
from aiq_search.worker import Assignment, Report

__all__ = ["StudyDriver"]

# Trials that must have ended before a share of failures means anything.
_FAILURES_COUNT_FROM = 8


class StudyDriver:
    """Runs a study through its phases: explore, confirm finalists, measure champion and reference network.

    Hold the study's lock while one exists. A runner (``search.runners``) calls ``next_assignment`` while
    workers are free, then ``report``, ``fail``, ``died``, ``halt`` or ``pause``: what becomes of each trial.

    Args:
        study: The study.
        listeners: Hear every event, in order.
        clock: Unix time, in seconds.

    Attributes:
        draining: Nothing more begins: running epochs end, and their trials are put aside. Anyone may set it.
        finished: Nothing is left to do.
        message: Why the search stopped by itself, or has no champion.

    Raises:
        InputError: The sampler or pruner does not take an option.
    """

    def __init__(
        self, study: Study, listeners: Iterable[StudyListener] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self.study = study
        self.space = study.space
        self.draining = False
        self.finished = False
        self.message: str | None = None
        self._listeners = list(listeners)
        self._clock = clock
        options = self.space.search
        sampler = create_sampler(options.sampler, options.seed, conditional=self.space.conditional)
        sampler = with_prices(sampler, self.space, study.document.dataset)
        exploring = study.load(Phase.EXPLORE, sampler, create_pruner(options.pruner))
        confirming, referencing = (
            study.load(phase, optuna.samplers.RandomSampler(0)) for phase in (Phase.CONFIRM, Phase.REFERENCE)
        )
        self._ledger = Ledger(self.space.objective)
        self._trials = LiveTrials(
            study,
            {Phase.EXPLORE: exploring, Phase.CONFIRM: confirming, Phase.REFERENCE: referencing},
            self._ledger,
            self._emit,
            self._stopped,
            clock,
        )
        self._phases: dict[Phase, SearchPhase] = {
            Phase.EXPLORE: Exploring(self.space, exploring, self._ledger, self._trials, clock),
            Phase.CONFIRM: (Racing if self.space.confirm.races else Confirming)(
                self.space, confirming, self._ledger
            ),
            Phase.REFERENCE: ReferencePhase(
                self.space, referencing, exploring, self._ledger, study.document.dataset
            ),
        }
        self._phase: SearchPhase | None = None
        self._total = 0
        self._taken_up = False

    # ---- the study's life ------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the study up from where it is: emit StudyStarted and queue what was interrupted.

        Listeners that want the history receive it, too.
        """
        records = self.study.records()
        for record in records:
            self._trials.adopt(record)
        self._ledger.finalists = self.study.finalists
        self._emit(
            StudyStarted(
                self.study.id,
                self.space.name,
                self.study.document.as_json(),
                resumed=bool(records),
                time=self._clock(),
            )
        )
        for listener in self._listeners:
            if records and isinstance(listener, HistoryListener):
                listener.on_history(records)
        for phase in self._phases.values():
            phase.take_up()
        self._taken_up = True

    def end(self, reason: str | None = None) -> Champion | None:
        """Let go of the study: emit StudyEnded.

        Args:
            reason: finished, interrupted or failed; by default what happened.

        Returns:
            The champion, if there is one.
        """
        if not self._taken_up:
            return None  # what the study has is not known: nothing may be announced or deleted
        if self.draining:
            for key in list(self._trials.running):
                self.pause(key)  # its epoch took longer than draining may
        champion = None
        try:
            champion = self.champion()
        except NothingFeasibleError as error:
            self.message = self.message or str(error)
        comparison = None if champion is None else self._ledger.comparison(champion)
        counts = dict.fromkeys((str(state) for state in TrialState), 0) | self._ledger.counts()
        counts[TrialState.RUNNING] = len(self._trials.running) + len(self._trials.interrupted)
        self._emit(
            StudyEnded(
                self.study.id,
                reason or ("finished" if self.finished else "interrupted"),
                self._clock(),
                counts,
                None if champion is None else champion.document(),
                self.message,
                tuple(self._ledger.finalists),
                tuple(v.document() for v in self._ledger.verdicts(self.space, champion)),
                None if comparison is None else comparison.document(),
            )
        )
        self._trials.sweep()
        return champion

    def champion(self) -> Champion:
        """The champion so far.

        Raises:
            NothingFeasibleError: No configuration meets the constraints.
        """
        return self._ledger.champion(self.space)

    # ---- what is trained next --------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Number of trials in training."""
        return len(self._trials.running)

    def next_assignment(self) -> Assignment | None:
        """The next network to train, or None: ``finished``, or nothing before a running trial ends."""
        if self.draining or self.finished:
            return None
        while self._trials.interrupted:
            record = self._trials.interrupted.popleft()
            self._enter(self._phases[record.key.phase])
            assignment = self._trials.resume(record)
            if assignment is not None:
                return assignment
        for phase in self._phases.values():
            if phase.is_ready(idle=not self.running):
                self._enter(phase)
                trial = phase.next_trial()
                if trial is not None:
                    return self._trials.start(phase.name, trial)
        self.finished = not self.running
        return None

    # ---- what comes back -------------------------------------------------------------------------

    def report(self, key: TrialKey, report: Report) -> bool:
        """Take a worker's report.

        Args:
            key: Of its trial.
            report: Its content; epochs that were reported before are passed over.

        Returns:
            Whether the trial continues.
        """
        return self._trials.report(key, report)

    def fail(self, key: TrialKey, reason: str) -> None:
        """A trial ended without a result."""
        self._trials.fail(key, reason)

    def died(self, key: TrialKey, reason: str) -> None:
        """A trial's worker died: it continues from its checkpoint, or fails where that was too often."""
        self._trials.died(key, reason)

    def halt(self, key: TrialKey, reason: str) -> None:
        """A trial cannot continue for a reason that is not its own: the study stops, and keeps it."""
        self.pause(key)
        self.message = f"stopped: {reason}, then continue with `aiq resume {self.study.id}`"
        self.draining = True

    def pause(self, key: TrialKey) -> None:
        """A trial was put aside while draining; it stays RUNNING in the study."""
        self._trials.pause(key)

    def _stopped(self, record: TrialRecord) -> None:
        self._phases[record.key.phase].stopped(record)
        if record.state is not TrialState.FAIL:
            return
        limit = self.space.search.max_failed
        failed, ended = self._ledger.failed, self._ledger.trained
        if ended >= _FAILURES_COUNT_FROM and failed > limit * ended:
            self.message = (
                f"stopped: {failed} of {ended} trials failed, more than search.max_failed = "
                f"{limit:g}; the last one: {record.reason}"
            )
            self.draining = True

    # ---- events ----------------------------------------------------------------------------------

    def _enter(self, phase: SearchPhase) -> None:
        """Note which phase a trial begins in, and how many it has: only exploring knows that for good."""
        if self._phase is phase is self._phases[Phase.EXPLORE]:
            return
        if self._phase is not phase or self._total != phase.total:
            self._phase, self._total = phase, phase.total
            done = len(self._ledger.of(phase.name))
            self._emit(PhaseStarted(self.study.id, phase.name, self._total, done, self._clock()))

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener.on_event(event)
