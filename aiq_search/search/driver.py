"""The driver of a study: what is trained next, what is stopped, what is told, and to whom.

It knows nothing of Ray: assignments go out, reports come in. Everything that it decides is in the
study's storage before anyone hears of it.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from aiq_search.errors import NothingFeasibleError
from aiq_search.search.confirmation import enqueue_confirmations
from aiq_search.search.ledger import Ledger
from aiq_search.search.proposals import Proposals
from aiq_search.search.pruners import create_pruner, decide_again
from aiq_search.search.running import RunningTrial, objective_values
from aiq_search.search.samplers import create_sampler
from aiq_search.space import SearchSpace
from aiq_search.space.points import grid
from aiq_search.study.champion import Champion, choose_champion, name_finalists
from aiq_search.study.events import (
    EpochEnded,
    Event,
    Phase,
    PhaseStarted,
    StudyEnded,
    StudyListener,
    StudyStarted,
    TrialKey,
    TrialState,
)
from aiq_search.study.record import ATTEMPTS, BEGIN, END, TrialRecord
from aiq_search.study.retention import Retention
from aiq_search.study.study import EXPLORED_SECONDS, FINALISTS, Study
from aiq_search.worker import Assignment, Report

__all__ = ["StudyDriver"]

# Trials that must have ended before a share of failures means anything.
_FAILURES_COUNT_FROM = 8


class StudyDriver:
    """Runs a study through its phases: explore, confirm the finalists, measure the champion anew.

    Hold the study's lock while one exists.

    Args:
        study: The study.
        listeners: Told of every event, in order.
        clock: Unix time, in seconds.

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
        self._pruner = create_pruner(options.pruner)
        sampler = create_sampler(options.sampler, options.seed, conditional=self.space.conditional)
        self._optuna = {
            Phase.EXPLORE: study.load(Phase.EXPLORE, sampler, self._pruner),
            Phase.CONFIRM: study.load(Phase.CONFIRM, optuna.samplers.RandomSampler(0)),
        }
        self._proposals = Proposals(self.space, self._optuna[Phase.EXPLORE])
        self._ledger = Ledger(self.space.objective)
        self._retention = Retention(study)
        self._finalists: list[int] = []
        self._running: dict[TrialKey, RunningTrial] = {}
        self._interrupted: deque[TrialRecord] = deque()
        self._undecided: set[TrialKey] = set()  # an earlier driver may have died between report and verdict
        # Drawn while the same configuration is in training, by its hash: its result is theirs.
        self._duplicates: defaultdict[str, list[tuple[optuna.Trial, dict[str, Any]]]] = defaultdict(list)
        self._waiting = 0
        self._phase: Phase | None = None
        self._budget = options.trials
        self._begun = clock()
        self._taken_up = False

    @staticmethod
    def check(space: SearchSpace) -> None:
        """Raise InputError for a sampler, pruner or grid that cannot be, before anything is written."""
        create_pruner(space.search.pruner)
        create_sampler(space.search.sampler, space.search.seed, conditional=space.conditional)
        if space.search.sampler.name == "grid":
            next(grid(space), None)

    # ---- the study's life ------------------------------------------------------------------------

    def begin(self) -> None:
        """Take up the study where it stands: emit StudyStarted and queue what was interrupted."""
        self._proposals.finish_asking()
        before = self.study.records()
        for record in before:
            if record.finished:
                self._ledger.add(record)
                self._retention.add(record)
            else:
                self._interrupted.append(record)
                self._undecided.add(record.key)
        self._finalists = self.study.finalists
        if self._finalists:
            self._waiting = self._enqueue_confirmations([])  # those that an earlier driver queued
        # As if exploring had begun so long ago as all drivers together have explored.
        self._begun = self._clock() - self._optuna[Phase.EXPLORE].user_attrs.get(EXPLORED_SECONDS, 0.0)
        self._emit(
            StudyStarted(
                self.study.id,
                self.space.name,
                self.study.document.as_json(),
                resumed=bool(before),
                time=self._clock(),
            )
        )
        self._budget = self._proposals.take_up(self._budget)
        self._taken_up = True

    def end(self, reason: str | None = None) -> Champion | None:
        """Let go of the study: emit StudyEnded and give the champion, if there is one.

        Args:
            reason: finished, interrupted or failed; by default what happened.
        """
        if not self._taken_up:
            return None  # what is there is not known: nothing may be told or deleted
        if self.draining:
            for key in list(self._running):
                self.pause(key)  # its epoch took longer than draining may
        champion = None
        try:
            champion = self.champion()
        except NothingFeasibleError as error:
            self.message = self.message or str(error)
        counts = dict.fromkeys((str(state) for state in TrialState), 0) | self._ledger.counts()
        counts[TrialState.RUNNING] = len(self._running) + len(self._interrupted)
        self._emit(
            StudyEnded(
                self.study.id,
                reason or ("finished" if self.finished else "interrupted"),
                self._clock(),
                counts,
                None if champion is None else champion.document(),
                self.message,
                tuple(self._finalists),
            )
        )
        self._retention.sweep([*self._running, *(record.key for record in self._interrupted)])
        return champion

    def champion(self) -> Champion:
        """The champion as far as the study has come.

        Raises:
            NothingFeasibleError: No configuration meets the constraints.
        """
        return choose_champion(
            self.space,
            list(self._ledger.explored.values()),
            list(self._ledger.confirmed.values()),
            self._finalists,
        )

    # ---- what is trained next --------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Number of trials in training."""
        return len(self._running)

    def next_assignment(self) -> Assignment | None:
        """The next network to train, or None: ``finished``, or nothing before a running trial ends."""
        if self.draining or self.finished:
            return None
        while self._interrupted:
            taken_up = self._take_up(self._interrupted.popleft())
            if taken_up is not None:
                return taken_up
        if self._exploring():
            self._enter(Phase.EXPLORE, self._budget)
            assignment = self._ask()
            if assignment is not None:
                return assignment
        if self._waiting == 0:
            if self._running:
                return None  # the barrier between phases: what follows depends on what still runs
            if not self._plan_confirmations():
                self.finished = True
                return None
        self._waiting -= 1
        return self._confirm_next()

    def _exploring(self) -> bool:
        """Whether another configuration may be asked for."""
        options = self.space.search
        if self._proposals.owed:
            return True
        asked = self._ledger.asked + sum(record.retry_of is None for record in self._in_training())
        asked += sum(map(len, self._duplicates.values()))
        if asked >= self._budget or self._finalists:
            return False
        if options.max_hours is not None and self._clock() - self._begun > options.max_hours * 3600:
            return False
        if options.no_improvement is not None and self._ledger.since_best >= options.no_improvement:
            return False
        best = self._ledger.best
        if options.target is not None and best is not None and best.value is not None:
            _, direction = self.space.objective.directions[0]
            reached = best.value >= options.target
            return not (reached if direction == "maximize" else best.value <= options.target)
        return True

    def _in_training(self) -> list[TrialRecord]:
        return [r.record for key, r in self._running.items() if key.phase is Phase.EXPLORE]

    def _ask(self) -> Assignment | None:
        """Draw until a configuration has to be trained; None when the budget is used up."""
        while self._exploring():
            trial, begin = self._proposals.draw()
            if BEGIN not in trial.user_attrs:
                if self.space.search.duplicates == "known_result" and self._is_known(trial, begin):
                    continue
                trial.set_user_attr(BEGIN, begin)
            return self._start(Phase.EXPLORE, trial)
        return None

    def _is_known(self, trial: optuna.Trial, begin: dict[str, Any]) -> bool:
        """Answer a configuration that has a result, or let it wait for the result that it will have.

        One that waits has not begun: a later driver finds it as if it had just been drawn.
        """
        wanted = begin["config_hash"]
        known = self._ledger.known(wanted)
        if known is not None:
            self._answer(trial, begin, known)
            return True
        waits = any(record.config_hash == wanted for record in self._in_training())
        if waits:
            self._duplicates[wanted].append((trial, begin))
        return waits

    def _answer(self, trial: optuna.Trial, begin: dict[str, Any], known: TrialRecord) -> None:
        """Tell a trial with the result that its configuration has already had."""
        trial.set_user_attr(BEGIN, {**begin, "copied_from": known.key.number})
        record = self._begin_record(Phase.EXPLORE, trial)
        running = self._running[record.key] = RunningTrial(trial, record)
        self._emit(record.begun(self._clock()))
        self._tell_known(running, known)

    def _tell_known(self, running: RunningTrial, known: TrialRecord) -> None:
        if known.state is TrialState.PRUNED and known.value is not None:
            running.trial.report(known.value, known.epochs)
        end = {
            name: getattr(known, name)
            for name in ("value", "epoch", "epochs", "metrics", "history", "collapsed", "feasible")
        }
        end["reason"] = f"same configuration as trial {known.key.number}: its result, not trained again"
        self._tell(running.record.key, known.state, end)

    def _plan_confirmations(self) -> bool:
        """Queue the next confirmations; False where nothing is left to do."""
        options = self.space.confirm
        if options.finalists == 0:
            return False
        if not self._finalists:
            self._finalists = name_finalists(
                self.space, self._ledger.explored, list(self._ledger.confirmed.values())
            )
            if not self._finalists:
                return False
            self._optuna[Phase.CONFIRM].set_user_attr(FINALISTS, self._finalists)
        wanted = [(n, seed) for seed in range(options.seeds) for n in self._finalists]
        self._waiting = self._enqueue_confirmations(wanted)
        if self._waiting == 0:
            try:
                winner = self.champion().trial
            except NothingFeasibleError:
                return False
            wanted += [(winner, seed) for seed in range(options.seeds, 2 * options.seeds)]
            self._waiting = self._enqueue_confirmations(wanted)
        if self._waiting:
            self._enter(Phase.CONFIRM, (len(self._finalists) + 1) * options.seeds)
        return self._waiting > 0

    def _enqueue_confirmations(self, wanted: Sequence[tuple[int, int]]) -> int:
        study = self._optuna[Phase.CONFIRM]
        return enqueue_confirmations(study, self.space, self._ledger.explored, wanted)

    def _confirm_next(self) -> Assignment:
        self._enter(Phase.CONFIRM, 0)
        trial = self._optuna[Phase.CONFIRM].ask()
        self.space.suggest(trial)
        return self._start(Phase.CONFIRM, trial)

    def _start(self, phase: Phase, trial: optuna.Trial) -> Assignment:
        record = self._begin_record(phase, trial)
        return self._assign(RunningTrial(trial, record), resumed=False)

    def _take_up(self, record: TrialRecord) -> Assignment | None:
        """Continue a trial that was left RUNNING; None where that ends it at once."""
        self._enter(record.key.phase, self._budget if record.key.phase is Phase.EXPLORE else 0)
        running = RunningTrial(self._optuna[record.key.phase].running(record.key.number), record)
        if record.copied_from is not None:
            self._running[record.key] = running
            self._tell_known(running, self._ledger.explored[record.copied_from])
            return None
        attempts = running.attempts
        if attempts > self.space.search.max_retries:
            self._running[record.key] = running
            self.fail(record.key, self._given_up(attempts, "its worker or driver died each time"))
            return None
        running.trial.set_user_attr(ATTEMPTS, attempts + 1)
        return self._assign(running, resumed=True)

    def _given_up(self, attempts: int, reason: str) -> str:
        return (
            f"begun {attempts} times, and search.max_retries = {self.space.search.max_retries}: {reason}; "
            f"`aiq retry {self.study.id}` runs it again"
        )

    def _assign(self, running: RunningTrial, *, resumed: bool) -> Assignment:
        record = running.record
        self._running[record.key] = running
        self._emit(record.begun(self._clock(), resumed=resumed))
        return Assignment(
            key=str(record.key),
            architecture=self.study.architecture(record.params).document(),
            training=self.space.training_options(record.params).model_dump(mode="json"),
            seed=record.seed,
            beta=self.space.objective.beta,
            test=record.key.phase is Phase.CONFIRM,
            checkpoint=str(self.study.checkpoint_path(record.key)),
            weights=str(self.study.weights_path(record.key)),
            minutes=self.space.search.trial_minutes,
        )

    def _begin_record(self, phase: Phase, trial: optuna.Trial) -> TrialRecord:
        record = TrialRecord.from_optuna(self.study.id, phase, self._optuna[phase].frozen(trial))
        if record is None:
            raise RuntimeError(f"trial {trial.number} began without its attributes")
        return record

    # ---- what comes back -------------------------------------------------------------------------

    def report(self, key: TrialKey, report: Report) -> bool:
        """Take a worker's report.

        Args:
            key: Whose.
            report: What it says; epochs that are known already are passed over.

        Returns:
            Whether the trial goes on.
        """
        running = self._running.get(key)
        if running is None:
            return False  # told already: a report that crossed the decision
        running.chosen = report.chosen or running.chosen
        running.size = report.size or running.size
        for epoch, metrics in report.epochs:
            if epoch in running.epochs:
                continue
            running.epochs[epoch] = metrics
            self._emit(EpochEnded(key, epoch, metrics, self._clock()))
            last = epoch == report.epochs[-1][0]
            if self._prunes(running, epoch, told=last and report.done):
                self._tell(key, TrialState.PRUNED, running.summary(self.space.objective, {}))
                return False
        if not report.done:
            return True
        if report.reason is not None:
            self.fail(key, report.reason, report.traceback)
        else:
            self._tell(key, TrialState.COMPLETE, running.summary(self.space.objective, report.test))
        return False

    def fail(self, key: TrialKey, reason: str, traceback: str | None = None) -> None:
        """A trial ended without a result."""
        running = self._running.get(key)
        if running is None:
            return
        end = running.summary(self.space.objective, {}) if running.chosen else {}
        end.update(value=None, feasible=False, reason=reason, traceback=traceback)
        self._tell(key, TrialState.FAIL, end)
        options = self.space.search
        failed, ended = self._ledger.failed, self._ledger.trained
        if ended >= _FAILURES_COUNT_FROM and failed > options.max_failed * ended:
            self.message = (
                f"stopped: {failed} of {ended} trials failed, more than search.max_failed = "
                f"{options.max_failed:g}; the last one: {reason}"
            )
            self.draining = True

    def died(self, key: TrialKey, reason: str) -> None:
        """A trial's worker died: it goes on from its checkpoint, or fails where that was too often."""
        running = self._running.get(key)
        if running is None:
            return
        if running.attempts > self.space.search.max_retries:
            self.fail(key, self._given_up(running.attempts, reason))
        else:
            self._interrupted.append(self._running.pop(key).record)

    def halt(self, key: TrialKey, reason: str) -> None:
        """A trial cannot go on for a reason that is not its own: the study stops, and keeps it."""
        self.pause(key)
        self.message = f"stopped: {reason}, then go on with `aiq resume {self.study.id}`"
        self.draining = True

    def pause(self, key: TrialKey) -> None:
        """A trial was put aside while draining; it stays RUNNING in the study."""
        running = self._running.pop(key, None)
        if running is not None:
            running.trial.set_user_attr(ATTEMPTS, running.attempts - 1)
            self._interrupted.append(running.record)
            self._note_time(key.phase)

    def _prunes(self, running: RunningTrial, epoch: int, *, told: bool) -> bool:
        """Report the value that the trial would end with now, and ask the pruner unless it is told."""
        key = running.record.key
        if key.phase is not Phase.EXPLORE or len(self.space.objective.directions) > 1:
            return False
        frozen = self._optuna[Phase.EXPLORE].frozen(running.trial)
        if epoch in frozen.intermediate_values:
            if told or epoch != frozen.last_step or key not in self._undecided:
                return False  # decided when it was reported
            self._undecided.remove(key)
            return decide_again(self._pruner, self._optuna[Phase.EXPLORE], frozen)
        running.trial.report(objective_values(self.space.objective, running.at(epoch))[0], epoch)
        return not told and running.trial.should_prune()

    def _tell(self, key: TrialKey, state: TrialState, end: dict[str, Any]) -> None:
        """Bring a trial to its final state: in the study first, then to the listeners."""
        running = self._running.pop(key)
        study = self._optuna[key.phase]
        scored = TrialRecord(
            key, state, {}, 0, "", metrics=end.get("metrics", {}), collapsed=end.get("collapsed", False)
        )
        # Attributes and constraints cannot be written once the trial is told.
        running.trial.set_user_attr(END, end)
        if end.get("metrics"):
            for constraint in self.space.objective.number_constraints:
                running.trial.set_constraint(str(constraint), constraint.violation(scored.scored))
        values = objective_values(self.space.objective, scored) if state is TrialState.COMPLETE else None
        study.tell(running.trial, values, OptunaState[state])
        record = self._begin_record(key.phase, running.trial)
        self._ledger.add(record)
        self._note_time(key.phase)
        if key.phase is Phase.EXPLORE:
            for waiting in self._duplicates.pop(record.config_hash, ()):
                self._proposals.put_back(*waiting)  # for its answer, or to be trained if this one failed
        self._emit(record.told(self._clock()))
        self._retention.tidy(record)

    def _note_time(self, phase: Phase) -> None:
        """Keep for later drivers how much of ``search.max_hours`` is used up."""
        if self.space.search.max_hours is not None and phase is Phase.EXPLORE:
            self._optuna[phase].set_user_attr(EXPLORED_SECONDS, self._clock() - self._begun)

    # ---- events ----------------------------------------------------------------------------------

    def _enter(self, phase: Phase, total: int) -> None:
        if self._phase is not phase:
            self._phase = phase
            done = len(self._ledger.of(phase))
            total = total or (len(self._finalists) + 1) * self.space.confirm.seeds
            trials = self._optuna[phase].get_trials(deepcopy=False)
            total += sum("retry_of" in trial.user_attrs.get(BEGIN, {}) for trial in trials)
            self._emit(PhaseStarted(self.study.id, phase, total, done, self._clock()))

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener.on_event(event)
