"""What is known of one trial, read from the study's storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from aiq_search.study.events import Phase, TrialEnded, TrialKey, TrialStarted, TrialState, trial_name
from aiq_search.study.metrics import is_merit

__all__ = [
    "ATTEMPTS",
    "BEGIN",
    "END",
    "REPLICATE",
    "RUNGS",
    "TrialRecord",
    "config_hash",
    "failures",
    "without_retried",
]

# The two attributes of an Optuna trial in which we keep what Optuna has no field for. One is written
# when the trial is asked for, the other just before it is told.
BEGIN = "aiq.begin"
END = "aiq.end"

# What a trial showed at the rungs of its first epoch, where it has come to some.
RUNGS = "aiq.rungs"

# Which of the seeds of its cell a trial of a grid is, from 0, where it waits to be begun.
REPLICATE = "aiq.replicate"

# How often a trial was begun, where that is not once. An attempt that was put aside in good order does
# not count, so that whoever finds the trial RUNNING knows how many deaths it has seen.
ATTEMPTS = "aiq.attempts"


def config_hash(params: Mapping[str, Any]) -> str:
    """Identifies a configuration.

    >>> config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(dict(params), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class TrialRecord:
    """One trial: a configuration trained once.

    Attributes:
        key: Its identity.
        state: Where it stands.
        params: Values by dotted name.
        seed: Of this training.
        config_hash: Identifies the configuration.
        origin: Of a confirmation, the exploring trial whose configuration it repeats.
        replicate: Of a confirmation and of the reference network's seeds, which of the fresh seeds; of an
            exploring trial, which of ``search.replicates``.
        value: The objective at the chosen epoch; 0 for a collapsed network.
        epoch: The chosen epoch, from 1: of the lowest validation loss.
        epochs: How many were run.
        metrics: Numbers of the chosen epoch, and parameters, parameters_weights, macs, ceiling/…, test/…
        history: A column of numbers, one an epoch, for each metric.
        rungs: What it showed within its first epoch: share, samples, aiq, accuracy, efficiency, loss.
        reason: Why PRUNED or FAIL.
        traceback: Of a user's exception.
        collapsed: Whether a layer's entropy was zero.
        engine: What trained and measured, see ``training.engines``.
        engine_reason: Why torch, where the compiled engine would have been taken.
        feasible: Whether the constraints are met; None while it is not known.
        copied_from: The exploring trial whose result answered this one.
        retry_of: The failed trial of the same phase that this one runs again.
        seconds: How long training and measuring took its workers, where they reported it.
        started: Unix time, in seconds.
        ended: Likewise.
    """

    key: TrialKey
    state: TrialState
    params: Mapping[str, Any]
    seed: int
    config_hash: str
    origin: int | None = None
    replicate: int | None = None
    value: float | None = None
    epoch: int | None = None
    epochs: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, list[float]] = field(default_factory=dict)
    rungs: Sequence[Mapping[str, float]] = ()
    reason: str | None = None
    traceback: str | None = None
    collapsed: bool = False
    engine: str | None = None
    engine_reason: str | None = None
    feasible: bool | None = None
    copied_from: int | None = None
    retry_of: int | None = None
    seconds: float | None = field(default=None, compare=False)
    started: float | None = None
    ended: float | None = None

    @property
    def name(self) -> str:
        """Name of the trial's run, see ``events.trial_name``."""
        return trial_name(self.key, self.origin, self.replicate)

    @property
    def finished(self) -> bool:
        """Whether the state is final."""
        return self.state is not TrialState.RUNNING

    @property
    def scored(self) -> dict[str, float]:
        """The metrics to judge by: the merits of a collapsed network count as 0."""
        if not self.collapsed:
            return dict(self.metrics)
        return {name: 0.0 if is_merit(name) else value for name, value in self.metrics.items()}

    def until(self, epochs: int) -> TrialRecord:
        """The trial as it was after its first epochs, as many or fewer than it has ended."""
        losses = self.history["loss"][:epochs]
        chosen = losses.index(min(losses))
        metrics = {**self.metrics, **{name: column[chosen] for name, column in self.history.items()}}
        return replace(self, metrics=metrics, collapsed=metrics["efficiency"] == 0)

    def begun(self, time: float, *, resumed: bool = False) -> TrialStarted:
        """The event of its beginning, or of its being taken up again."""
        return TrialStarted(
            self.key,
            self.params,
            self.seed,
            self.config_hash,
            time,
            origin=self.origin,
            replicate=self.replicate,
            resumed=resumed,
            retry_of=self.retry_of,
        )

    def told(self, time: float) -> TrialEnded:
        """The event of its end."""
        return TrialEnded(
            self.key,
            self.state,
            time,
            value=self.value,
            epoch=self.epoch,
            epochs=self.epochs,
            reason=self.reason,
            traceback=self.traceback,
            collapsed=self.collapsed,
            engine=self.engine,
            engine_reason=self.engine_reason,
            metrics=self.metrics,
            feasible=self.feasible,
        )

    @classmethod
    def of_events(cls, started: TrialStarted, ended: TrialEnded) -> TrialRecord:
        """A trial as its events show it; without its curve."""
        return cls(
            ended.key,
            ended.state,
            started.params,
            started.seed,
            started.config_hash,
            origin=started.origin,
            replicate=started.replicate,
            value=ended.value,
            epoch=ended.epoch,
            epochs=ended.epochs,
            metrics=ended.metrics,
            reason=ended.reason,
            traceback=ended.traceback,
            collapsed=ended.collapsed,
            engine=ended.engine,
            engine_reason=ended.engine_reason,
            feasible=ended.feasible,
            retry_of=started.retry_of,
            started=started.time,
            ended=ended.time,
        )

    def retry(self) -> dict[str, Any]:
        """The ``BEGIN`` attribute of a trial that runs this one again."""
        attribute: dict[str, Any] = {
            "params": dict(self.params),
            "seed": self.seed,
            "config_hash": self.config_hash,
            "retry_of": self.key.number,
        }
        known = {"origin": self.origin, "replicate": self.replicate}
        return attribute | {name: value for name, value in known.items() if value is not None}

    @classmethod
    def from_optuna(cls, study: str, phase: Phase, trial: FrozenTrial) -> TrialRecord | None:
        """Read an Optuna trial; None where none of ours began: waiting, refused, or from a warm start."""
        begin = trial.user_attrs.get(BEGIN)
        if begin is None or "params" not in begin or trial.state is OptunaState.WAITING:
            return None
        return cls(
            key=TrialKey(study, phase, trial.number),
            state=TrialState(trial.state.name),
            params=begin["params"],
            seed=begin["seed"],
            config_hash=begin["config_hash"],
            origin=begin.get("origin"),
            replicate=begin.get("replicate"),
            copied_from=begin.get("copied_from"),
            retry_of=begin.get("retry_of"),
            rungs=trial.user_attrs.get(RUNGS, ()),
            started=trial.datetime_start.timestamp() if trial.datetime_start else None,
            ended=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
            **trial.user_attrs.get(END, {}),
        )


def without_retried(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The records without the failures that were run again: what counts of a study."""
    listed = list(records)
    retried = {(record.key.phase, record.retry_of) for record in listed}
    return [record for record in listed if (record.key.phase, record.key.number) not in retried]


def failures(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The failed trials that have not been run again, without copies of an earlier failure."""
    return [
        record
        for record in without_retried(records)
        if record.state is TrialState.FAIL and record.copied_from is None
    ]
