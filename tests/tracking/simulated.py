"""A study that never trained: events as a driver would send them, with plausible numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiq_search.space import SearchSpace
from aiq_search.study import Champion
from aiq_search.study.document import StudyDocument
from aiq_search.study.events import (
    EpochEnded,
    Event,
    Phase,
    PhaseStarted,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialKey,
    TrialStarted,
    TrialState,
)
from aiq_search.study.record import TrialRecord
from aiq_search.study.view import champion_of

STUDY = "lenet-5-digits-20260102-030405-beef"
START = 1_767_322_245.0
LAYERS = ("conv1", "conv2", "fc")


def document(study: str = STUDY) -> dict[str, Any]:
    """What study.json holds."""
    width = {"type": "int", "low": 2, "high": 256, "log": True}
    content: dict[str, Any] = {
        "study": study,
        "space": {
            "schema_version": 1,
            "name": "lenet-5-digits",
            "model": {"name": "lenet_5", "activation": "elu"},
            "dataset": {"name": "digits", "validation": 360},
            "parameters": {
                "model.conv1": width,
                "model.conv2": width,
                "model.fc": width,
                "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
                "model.batch_norm": {"type": "categorical", "choices": [False, True]},
                "training.learning_rate": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True},
            },
            "objective": {"maximize": "aiq", "beta": 2, "constraints": ["accuracy >= 0.9"]},
            "search": {"trials": 60, "sampler": "tpe", "pruner": "asha", "seed": 0},
            "confirm": {"finalists": 3, "seeds": 4},
        },
        "fingerprint": "f" * 16,
        "provenance": {
            "command": [
                "aiq",
                "search",
                "lenet_5.yaml",
                "--tracking-uri",
                "https://ada:lovelace@mlflow.example.org",
            ],
            "versions": {"aiq-search": "0.1.0", "torch": "2.15.0"},
            "platform": "Linux",
            "git_commit": "c0ffee",
        },
        "seed": 0,
        "created": START,
        "tracking_uri": "sqlite:///mlflow.db",
        "dataset": {
            "name": "digits",
            "digest": "0123456789abcdef",
            "train": 1077,
            "validation": 360,
            "test": 360,
            "input_shape": [1, 8, 8],
            "input_dtype": "uint8",
            "classes": [str(x) for x in range(10)],
        },
        "beta": 2,
    }
    return StudyDocument.parse(content, "simulated").as_json()


def epoch_metrics(widths: Sequence[int], epoch: int, rng: random.Random) -> dict[str, float]:
    """Numbers of one epoch: wide networks are more accurate and less efficient; late ones overfit."""
    size = math.prod(widths) ** (1 / len(widths))
    accuracy = min(0.995, 1 - 0.6 / size - 0.25 / epoch + rng.gauss(0, 0.004))
    layers = {
        f"efficiency/{n}": min(0.99, 8.2 / w, 8.4 / (w + 8) + rng.gauss(0, 0.01))
        for n, w in zip(LAYERS, widths, strict=True)
    }
    efficiency = math.prod(layers.values()) ** (1 / len(layers))
    loss = 1 - accuracy + (0.02 * (epoch - 7) if epoch > 7 else 0)
    return {
        "aiq": (accuracy**2 * efficiency) ** (1 / 3),
        "accuracy": accuracy,
        "efficiency": efficiency,
        "loss": loss,
        "train_loss": 0.9 * (1 - accuracy),
        **layers,
    }


@dataclass
class SimulatedTrial:
    """One trial of a simulated study."""

    number: int
    study: str = STUDY
    epochs: int = 10
    phase: Phase = Phase.EXPLORE
    origin: int | None = None
    replicate: int | None = None
    state: TrialState = TrialState.COMPLETE
    widths: tuple[int, int, int] = (0, 0, 0)
    start: float = START
    seconds: float = 0.5
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.phase}{self.number}")
        if not any(self.widths):
            a, b, c = (round(2 ** self.rng.uniform(1, 7)) for _ in range(3))
            self.widths = (a, b, c)
        self.history = [epoch_metrics(self.widths, e, self.rng) for e in range(1, self.epochs + 1)]

    @property
    def key(self) -> TrialKey:
        return TrialKey(self.study, self.phase, self.number)

    @property
    def params(self) -> dict[str, Any]:
        rng = random.Random(self.number if self.origin is None else self.origin)
        return {
            **dict(zip((f"model.{x}" for x in LAYERS), self.widths, strict=True)),
            "model.dropout": rng.uniform(0, 0.5),
            "model.batch_norm": rng.random() < 0.5,
            "training.learning_rate": 10 ** rng.uniform(-3, -1),
        }

    @property
    def chosen(self) -> int:
        """Epoch of the lowest validation loss, from 1."""
        return 1 + min(range(len(self.history)), key=lambda e: self.history[e]["loss"])

    def started(self, resumed: bool = False, time: float | None = None) -> TrialStarted:
        return TrialStarted(
            key=self.key,
            params=self.params,
            seed=1000 + self.number,
            config_hash=f"{hash(self.widths) & 0xFFFFFFFF:08x}",
            time=self.start if time is None else time,
            origin=self.origin,
            replicate=self.replicate,
            resumed=resumed,
        )

    def epoch_ended(self, epoch: int) -> EpochEnded:
        time = self.start + self.seconds * epoch / self.epochs
        return EpochEnded(self.key, epoch, self.history[epoch - 1], time)

    def ended(self) -> TrialEnded:
        a, b, c = self.widths
        weights = 25 * a + 25 * a * b + 16 * b * c
        metrics = dict(self.history[self.chosen - 1])
        value = metrics["aiq"]
        metrics |= {
            "parameters": weights + a + b + 11 * c + 10,
            "parameters_weights": weights,
            "macs": 64 * weights,
        }
        if self.phase is Phase.CONFIRM:
            metrics |= {f"test/{x}": 0.99 * metrics[x] for x in ("aiq", "accuracy", "efficiency")}
        return TrialEnded(
            key=self.key,
            state=self.state,
            time=self.start + self.seconds + 0.01,
            value=None if self.state is TrialState.FAIL else value,
            epoch=self.chosen,
            epochs=self.epochs,
            reason={TrialState.PRUNED: "pruned at rung 2", TrialState.FAIL: "loss is NaN"}.get(self.state),
            metrics=metrics,
            feasible=metrics["accuracy"] >= 0.9,
        )

    def record(self) -> TrialRecord:
        """The trial as the study's storage has it once it is over."""
        end = self.ended()
        return TrialRecord(
            key=self.key,
            state=self.state,
            params=self.params,
            seed=1000 + self.number,
            config_hash=self.started().config_hash,
            origin=self.origin,
            replicate=self.replicate,
            value=end.value,
            epoch=end.epoch,
            epochs=end.epochs,
            metrics=end.metrics,
            history={name: [h[name] for h in self.history] for name in self.history[0]},
            reason=end.reason,
            feasible=end.feasible,
            started=self.start,
            ended=end.time,
        )

    def events(self) -> list[Event]:
        return [self.started(), *(self.epoch_ended(e) for e in range(1, self.epochs + 1)), self.ended()]


def study_started(study: str = STUDY, resumed: bool = False, time: float = START) -> StudyStarted:
    return StudyStarted(study, "lenet-5-digits", document(study), resumed, time)


def trials(count: int, study: str = STUDY, start: float = START) -> list[SimulatedTrial]:
    """Exploring trials: every third is pruned after two epochs, every tenth fails."""
    made = []
    for number in range(count):
        state = (
            TrialState.FAIL
            if number % 10 == 9
            else TrialState.PRUNED
            if number % 3 == 2
            else TrialState.COMPLETE
        )
        epochs = 10 if state is TrialState.COMPLETE else 2
        made.append(SimulatedTrial(number, study, epochs, state=state, start=start + number / 4))
    return made


def confirmations(
    explored: Sequence[SimulatedTrial], finalists: int = 2, seeds: int = 3
) -> list[SimulatedTrial]:
    """The best configurations again, on fresh seeds."""
    complete = [t for t in explored if t.state is TrialState.COMPLETE and t.ended().feasible]
    best = sorted(complete, key=lambda t: -t.history[t.chosen - 1]["aiq"])[:finalists]
    start = max(t.start for t in explored) + 1
    return [
        SimulatedTrial(
            number=i * seeds + seed,
            study=t.study,
            phase=Phase.CONFIRM,
            origin=t.number,
            replicate=seed,
            widths=t.widths,
            start=start + i + seed / 4,
        )
        for i, t in enumerate(best)
        for seed in range(seeds)
    ]


def study_ended(
    made: Sequence[SimulatedTrial], reason: str = "finished", time: float | None = None
) -> StudyEnded:
    study = made[0].study if made else STUDY
    counts = {str(s): sum(t.state is s for t in made) for s in TrialState}
    end = max((t.start + t.seconds for t in made), default=START) + 1
    best = max(
        (t for t in made if t.state is TrialState.COMPLETE and t.ended().feasible),
        key=lambda t: t.ended().value or 0,
        default=None,
    )
    champion = None
    if best is not None:
        metrics = best.ended().metrics
        champion = {
            "study": study,
            "phase": "confirm",
            "trial": best.number if best.origin is None else best.origin,
            "params": best.params,
            "metrics": {
                split: {
                    n: {"mean": metrics["aiq" if n == "objective" else n], "sd": 0.01, "n": 4}
                    for n in ("aiq", "accuracy", "efficiency", "objective")
                }
                for split in ("validation", "test")
            },
            **{n: metrics[n] for n in ("parameters", "parameters_weights", "macs")},
            "feasible": True,
        }
    return StudyEnded(study, reason, end if time is None else time, counts, champion)


def whole_study(count: int = 6, study: str = STUDY) -> Iterator[Event]:
    """Every event of a small study, from its start to its end."""
    explored = trials(count, study)
    confirmed = confirmations(explored)
    yield study_started(study)
    yield PhaseStarted(study, Phase.EXPLORE, count, 0, START)
    for trial in explored:
        yield from trial.events()
    yield PhaseStarted(study, Phase.CONFIRM, len(confirmed), 0, START + count)
    for trial in confirmed:
        yield from trial.events()
    yield study_ended([*explored, *confirmed])


class RecordedTrials:
    """A ``StudyView`` that has these records, and study.json with these changes."""

    is_running = False

    def __init__(self, records: Sequence[TrialRecord], **changes: Any) -> None:
        self.id = STUDY
        self.document = StudyDocument.parse(document() | changes, "simulated")
        self._records = list(records)

    @property
    def space(self) -> SearchSpace:
        return self.document.space

    @property
    def finalists(self) -> list[int]:
        return sorted({r.origin for r in self._records if r.origin is not None})

    def records(self, phase: Phase | None = None) -> list[TrialRecord]:
        return [r for r in self._records if phase in (None, r.key.phase)]

    def champion(self) -> Champion:
        return champion_of(self)

    def refreshed(self) -> RecordedTrials:
        return self


class SimulatedStudy(RecordedTrials):
    """What a study's storage tells of simulated trials."""

    def __init__(self, trials: Sequence[SimulatedTrial]) -> None:
        self.trials = list(trials)
        super().__init__([t.record() for t in self.trials])


def simulated_study(count: int = 60) -> SimulatedStudy:
    explored = trials(count)
    return SimulatedStudy([*explored, *confirmations(explored, finalists=3, seeds=4)])
