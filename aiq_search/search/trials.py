"""A driver's trials in training, from start to final state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from aiq_search.search.ledger import Ledger
from aiq_search.search.pareto_pruner import ParetoPruner, merits
from aiq_search.search.pruners import count_as_stopped, decide_again
from aiq_search.search.rungs import Rungs
from aiq_search.search.running import RunningTrial, objective_values
from aiq_search.study.asking import AskingStudy
from aiq_search.study.events import EpochEnded, Event, Phase, RungReached, TrialKey, TrialState
from aiq_search.study.metrics import HEADLINE
from aiq_search.study.progress import ranking
from aiq_search.study.record import ATTEMPTS, BEGIN, END, RUNGS, TrialRecord
from aiq_search.study.retention import Retention
from aiq_search.study.study import Study
from aiq_search.worker import Assignment, Report, Rung

__all__ = ["LiveTrials"]

# What a trial answers with that is not trained again.
_COPIED = (
    *("value", "epoch", "epochs", "metrics", "history", "collapsed"),
    *("engine", "engine_reason", "feasible"),
)


class LiveTrials:
    """Starts trials, takes their reports, and brings them to their final states.

    Starts and ends are in the study's storage before any listener sees them. Epochs go to the listeners at
    once; the study keeps them as a history when the trial ends, and until then only the value of each that
    the pruner needs.

    Args:
        study: The study.
        optuna_studies: Its Optuna study of each phase, with its pruner.
        ledger: Gets each finished trial.
        emit: Passes an event to the listeners.
        stopped: Called with each trial that has ended or was put aside, before the listeners hear of it.
        clock: Unix time, in seconds.

    Attributes:
        running: Trials in training.
        interrupted: Trials to be continued.
    """

    def __init__(
        self,
        study: Study,
        optuna_studies: Mapping[Phase, AskingStudy],
        ledger: Ledger,
        emit: Callable[[Event], None],
        stopped: Callable[[TrialRecord], None],
        clock: Callable[[], float],
    ) -> None:
        self.running: dict[TrialKey, RunningTrial] = {}
        self.interrupted: deque[TrialRecord] = deque()
        self._study = study
        self._space = study.space
        self._optuna = optuna_studies
        self._ledger = ledger
        self._retention = Retention(study)
        self._emit = emit
        self._stopped = stopped
        self._clock = clock
        self._rungs = Rungs(self._space, study.document.dataset.train)
        self._undecided: set[TrialKey] = set()  # an earlier driver may have died between report and verdict

    def adopt(self, record: TrialRecord) -> None:
        """Take over a trial of an earlier driver: finished, or interrupted."""
        if record.key.phase is Phase.EXPLORE:
            self._rungs.adopt(record)
            self._note_rungs(record)
        if record.finished:
            self._ledger.add(record)
            self._retention.add(record)
        else:
            self.interrupted.append(record)
            self._undecided.add(record.key)

    def exploring(self) -> list[TrialRecord]:
        """The exploring trials in training."""
        return [each.record for key, each in self.running.items() if key.phase is Phase.EXPLORE]

    def sweep(self) -> None:
        """Delete every file of weights that neither the study's best nor an unfinished trial needs."""
        self._retention.sweep([*self.running, *(record.key for record in self.interrupted)])

    # ---- begin -----------------------------------------------------------------------------------

    def start(self, phase: Phase, trial: optuna.Trial) -> Assignment:
        """Begin a trial."""
        return self._assign(RunningTrial(trial, self._record(phase, trial)), resumed=False)

    def resume(self, record: TrialRecord) -> Assignment | None:
        """Continue an interrupted trial; None where that ends it at once."""
        running = RunningTrial(self._optuna[record.key.phase].running(record.key.number), record)
        if record.copied_from is not None:
            self.running[record.key] = running
            self._copy_result(running, self._ledger.explored[record.copied_from])
            return None
        attempts = running.attempts
        if attempts > self._space.search.max_retries:
            self.running[record.key] = running
            self.fail(
                record.key, _no_more_retries(self._study, attempts, "its worker or driver died each time")
            )
            return None
        running.trial.set_user_attr(ATTEMPTS, attempts + 1)
        return self._assign(running, resumed=True)

    def copy(self, trial: optuna.Trial, begin: Mapping[str, Any], source: TrialRecord) -> None:
        """End an exploring trial with the result that its configuration has already had.

        Args:
            trial: Optuna's.
            begin: What is to be kept of its beginning.
            source: The finished trial of the same configuration.
        """
        trial.set_user_attr(BEGIN, {**begin, "copied_from": source.key.number})
        record = self._record(Phase.EXPLORE, trial)
        running = self.running[record.key] = RunningTrial(trial, record)
        self._emit(record.begun(self._clock()))
        self._copy_result(running, source)

    def _copy_result(self, running: RunningTrial, source: TrialRecord) -> None:
        by_dominance = isinstance(self._optuna[Phase.EXPLORE].pruner, ParetoPruner)
        if source.state is TrialState.PRUNED and not by_dominance:
            value = source.value if source.value is not None else self._rungs.value(source.rungs[-1])
            running.trial.report(value, source.epochs)
        end = {name: getattr(source, name) for name in _COPIED}
        end["reason"] = f"same configuration as trial {source.key.number}: its result, not trained again"
        self._end(running.record.key, source.state, end)

    def _assign(self, running: RunningTrial, *, resumed: bool) -> Assignment:
        record = running.record
        self.running[record.key] = running
        self._emit(record.begun(self._clock(), resumed=resumed))
        rungs = self._rungs if record.key.phase is Phase.EXPLORE else None
        return _assignment(self._study, record, rungs)

    def _record(self, phase: Phase, trial: optuna.Trial) -> TrialRecord:
        record = TrialRecord.from_optuna(self._study.id, phase, self._optuna[phase].frozen(trial))
        if record is None:
            raise RuntimeError(f"trial {trial.number} began without its attributes")
        return record

    # ---- report and end --------------------------------------------------------------------------

    def report(self, key: TrialKey, report: Report) -> bool:
        """Take a worker's report; see ``StudyDriver.report``."""
        running = self.running.get(key)
        if running is None:
            return False  # it has ended: the report crossed the decision
        running.chosen = report.chosen or running.chosen
        running.size = report.size or running.size
        running.engine = report.engine or running.engine
        running.engine_reason = report.engine_reason or running.engine_reason
        running.seconds += report.seconds
        if report.rung is not None and self._stops_at(running, report.rung):
            return False
        for epoch, metrics in report.epochs:
            if epoch in running.epochs:
                continue
            running.epochs[epoch] = metrics
            self._emit(EpochEnded(key, epoch, metrics, self._clock()))
            last = epoch == report.epochs[-1][0]
            if self._prunes(running, epoch, last=last, over=last and report.done):
                self._end(key, TrialState.PRUNED, running.summary(self._space.objective, {}))
                return False
        if not report.done:
            return True
        if report.reason is not None:
            self.fail(key, report.reason, report.traceback)
        else:
            self._end(key, TrialState.COMPLETE, running.summary(self._space.objective, report.final))
        return False

    def fail(self, key: TrialKey, reason: str, traceback: str | None = None) -> None:
        """End a trial without a result."""
        running = self.running.get(key)
        if running is None:
            return
        end = running.summary(self._space.objective, {}) if running.chosen else {}
        end.update(value=None, feasible=False, reason=reason, traceback=traceback)
        self._end(key, TrialState.FAIL, end)

    def died(self, key: TrialKey, reason: str) -> None:
        """Continue a trial whose worker died, or fail it where that was too often."""
        running = self.running.get(key)
        if running is None:
            return
        if running.attempts > self._space.search.max_retries:
            self.fail(key, _no_more_retries(self._study, running.attempts, reason))
        else:
            self.interrupted.append(self.running.pop(key).record)

    def pause(self, key: TrialKey) -> None:
        """Keep a trial that was put aside RUNNING in the study."""
        running = self.running.pop(key, None)
        if running is not None:
            running.trial.set_user_attr(ATTEMPTS, running.attempts - 1)
            self.interrupted.append(running.record)
            self._stopped(running.record)

    def _stops_at(self, running: RunningTrial, rung: Rung) -> bool:
        """Keep what a trial shows at a rung; if it is clearly worse than others were, it ends."""
        record, key = running.record, running.record.key
        reached = [earlier["share"] for earlier in record.rungs]
        if rung.share not in reached:
            metrics = {
                name: rung.metrics[name] for name in (*HEADLINE, "loss", *self._space.objective.measures)
            }
            rungs = [*record.rungs, {"share": rung.share, "samples": rung.samples, **metrics}]
            running.trial.set_user_attr(RUNGS, rungs)
            running.record = replace(record, rungs=rungs)
            self._emit(RungReached(key, rung.share, rung.samples, metrics, self._clock()))
        elif key not in self._undecided or rung.share != reached[-1]:
            return False  # decided when it was reported
        self._undecided.discard(key)
        if not self._rungs.stops(key.number, rung.share, rung.metrics):
            return False
        value = self._rungs.value(rung.metrics)
        count_as_stopped(self._optuna[key.phase], running.trial, value)
        reason = (
            f"stopped after {rung.samples:,} samples, {rung.share:g} of its first epoch: "
            f"{ranking(self._space.objective)[0]} {value:.4f} was among the worst there"
        )
        end = {"reason": reason, "engine": running.engine, "engine_reason": running.engine_reason}
        self._end(key, TrialState.PRUNED, end, {**rung.metrics, **running.size})
        return True

    def _note_rungs(self, record: TrialRecord) -> None:
        """Take note of what an earlier driver's trial has shown, where trials are pruned by dominance."""
        pruner = self._optuna[Phase.EXPLORE].pruner
        if isinstance(pruner, ParetoPruner) and record.copied_from is None:
            for epoch in pruner.rungs(record.epochs):
                scored = record.until(epoch).scored
                pruner.note(record.key.number, epoch, merits(self._space.objective, scored))

    def _prunes(self, running: RunningTrial, epoch: int, *, last: bool, over: bool) -> bool:
        """Report the value that the trial would end with now, and ask the pruner unless the trial is over.

        Args:
            running: The trial.
            epoch: One that it has ended.
            last: Whether it is the last that it has ended.
            over: Whether the trial is over with it.
        """
        key, objective = running.record.key, self._space.objective
        study = self._optuna[Phase.EXPLORE]
        if key.phase is not Phase.EXPLORE:
            return False
        if isinstance(study.pruner, ParetoPruner):
            stops = study.pruner.stops(key.number, epoch, merits(objective, running.at(epoch).scored))
            return stops and last and not over
        if len(objective.directions) > 1:
            return False
        frozen = study.frozen(running.trial)
        if epoch in frozen.intermediate_values:
            if over or epoch != frozen.last_step or key not in self._undecided:
                return False  # decided when it was reported
            self._undecided.remove(key)
            return decide_again(study, frozen)
        running.trial.report(objective_values(objective, running.at(epoch))[0], epoch)
        return not over and running.trial.should_prune()

    def _end(
        self,
        key: TrialKey,
        state: TrialState,
        end: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Bring a trial to its final state: in the study first, then for the listeners.

        Args:
            key: The trial.
            state: Its final state.
            end: What is kept of its end.
            metrics: Numbers that show the sampler how far the constraints are missed; by default those kept.
        """
        running = self.running.pop(key)
        metrics = metrics or end.get("metrics", {})
        scored = TrialRecord(key, state, {}, 0, "", metrics=metrics, collapsed=end.get("collapsed", False))
        # Optuna refuses attributes and constraints of a trial that has ended.
        timed = {"seconds": round(running.seconds, 3)} if running.seconds else {}
        running.trial.set_user_attr(END, {**end, **timed})
        if metrics:
            for constraint in self._space.objective.number_constraints:
                running.trial.set_constraint(str(constraint), constraint.violation(scored.scored))
        values = objective_values(self._space.objective, scored) if state is TrialState.COMPLETE else None
        self._optuna[key.phase].tell(running.trial, values, OptunaState[state])
        record = self._record(key.phase, running.trial)
        self._ledger.add(record)
        self._stopped(record)
        self._emit(record.told(self._clock()))
        self._retention.tidy(record)


def _assignment(study: Study, record: TrialRecord, rungs: Rungs | None) -> Assignment:
    """What a worker needs to know of a trial."""
    options = study.space.training_options(record.params)
    confirming = record.key.phase is Phase.CONFIRM
    return Assignment(
        key=str(record.key),
        architecture=study.architecture(record.params).document(),
        training=options.model_dump(mode="json"),
        seed=record.seed,
        beta=study.space.objective.beta,
        accuracy=study.space.objective.accuracy,
        measures=study.space.objective.measures,
        capture=study.space.objective.capture.model_dump(mode="json"),
        test=record.key.phase is not Phase.EXPLORE and record.replicate is not None,
        int8=confirming and bool(study.space.objective.confirmed_measures),
        costs=study.space.objective.costs,
        checkpoint=str(study.checkpoint_path(record.key)),
        weights=str(study.weights_path(record.key)),
        minutes=study.space.search.trial_minutes,
        rungs=rungs.of(options) if rungs else (),
        watch=study.space.dataset.watch,
    )


def _no_more_retries(study: Study, attempts: int, reason: str) -> str:
    return (
        f"begun {attempts} times, and search.max_retries = {study.space.search.max_retries}: {reason}; "
        f"`aiq retry {study.id}` runs it again"
    )
