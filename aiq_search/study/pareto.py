"""The trade-off between several numbers: Pareto front and hypervolume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aiq_search.errors import NothingFeasibleError
from aiq_search.study.champion import Champion
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.metrics import HEADLINE
from aiq_search.study.optuna_internals import hypervolume
from aiq_search.study.record import TrialRecord
from aiq_search.study.view import StudyView
from aiq_search.training.measures import MEASURES

__all__ = ["TRADED", "ParetoFront", "front_of", "growth", "pareto_front"]

# What is traded where a study has one objective alone.
TRADED = (("accuracy", "maximize"), ("efficiency", "maximize"))

# These numbers lie between 0 and 1: the worst is the one or the other.
_BOUNDED = (*HEADLINE, *MEASURES)


@dataclass(frozen=True)
class ParetoFront:
    """The trials that no other trial beats in every objective.

    Attributes:
        directions: Each objective with maximize or minimize.
        records: The front, the best in the first objective first; each configuration once.
        reference: The corner from which the hypervolume is measured: for accuracy, aiq and efficiency 0
            (1 where they are minimised), for the others the worst complete trial.
        hypervolume: Volume between the reference and the front, in the product of the objectives' units.
        champion: The champion, or the best so far, wherever it is; None where nothing is feasible.
    """

    directions: tuple[tuple[str, str], ...]
    records: tuple[TrialRecord, ...]
    reference: tuple[float, ...]
    hypervolume: float
    champion: Champion | None = None

    def rows(self) -> list[tuple[TrialRecord, str]]:
        """The front, then the champion if it is not on it; each with what there is to note of it."""
        rows = [(record, self._note(record)) for record in self.records]
        if self.champion is not None and not any(note for _, note in rows):
            rows.append((self.champion.explored, f"{self._title}, not on the front"))
        return rows

    def _note(self, record: TrialRecord) -> str:
        if self.champion is None or record.config_hash != self.champion.explored.config_hash:
            return ""
        return self._title

    @property
    def _title(self) -> str:
        return "champion" if self.champion is not None and self.champion.judges else "best so far"

    def document(self) -> dict[str, Any]:
        """The front as a JSON document."""
        return {
            "objectives": dict(self.directions),
            "reference": dict(zip((name for name, _ in self.directions), self.reference, strict=True)),
            "hypervolume": self.hypervolume,
            "champion": None if self.champion is None else self.champion.trial,
            "trials": [
                {
                    "trial": record.key.number,
                    "on_front": index < len(self.records),
                    "note": note,
                    **record.metrics,
                    "params": dict(record.params),
                }
                for index, (record, note) in enumerate(self.rows())
            ],
        }


def front_of(study: StudyView) -> ParetoFront:
    """The champion, and the front of the objectives: of accuracy and efficiency where there is only one."""
    directions = study.space.objective.directions
    if len(directions) == 1:
        directions = TRADED
    front = pareto_front(study.records(Phase.EXPLORE), directions)
    try:
        return replace(front, champion=study.champion())
    except NothingFeasibleError:
        return front


def pareto_front(
    records: Iterable[TrialRecord], directions: Sequence[tuple[str, str]] = TRADED
) -> ParetoFront:
    """The Pareto front of the complete, feasible trials.

    Args:
        records: Trials; those that failed, were pruned, collapsed or break a constraint are passed over.
        directions: Each objective, a reported number, with maximize or minimize.

    Returns:
        The front; empty, with hypervolume 0, where no trial qualifies.
    """
    usable = _usable(records)
    losses, reference = _losses(usable, directions)
    front = [i for i in range(len(usable)) if not _beaten(i, losses)]
    volume = hypervolume(losses[front], reference) if front else 0.0
    ordered = sorted(front, key=lambda i: (tuple(losses[i]), usable[i].key.number))
    return ParetoFront(
        tuple(directions),
        tuple(usable[i] for i in ordered),
        tuple(float(number) + 0.0 for number in reference * _signs(directions)),  # no -0.0
        volume,
    )


def growth(
    records: Iterable[TrialRecord], directions: Sequence[tuple[str, str]] = TRADED
) -> list[tuple[TrialRecord, float]]:
    """How the front grew: each trial that moved it, and the hypervolume after that trial.

    Args:
        records: As ``pareto_front`` takes them, in the order in which they ended.
        directions: As there.

    Returns:
        The last hypervolume is that of ``pareto_front``.
    """
    usable = _usable(records)
    losses, reference = _losses(usable, directions)
    front = np.empty((0, len(directions)))
    grown = []
    for record, loss in zip(usable, losses, strict=True):
        if (front <= loss).all(axis=1).any():
            continue
        front = np.vstack([front[~(loss <= front).all(axis=1)], loss])
        grown.append((record, hypervolume(front, reference)))
    return grown


def _usable(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    return [
        record
        for record in records
        if record.state is TrialState.COMPLETE and record.feasible and not record.collapsed
    ]


def _signs(directions: Sequence[tuple[str, str]]) -> np.ndarray:
    return np.array([-1.0 if direction == "maximize" else 1.0 for _, direction in directions])


def _losses(
    usable: Sequence[TrialRecord], directions: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray]:
    """The objectives, (trials, objectives), all to be minimised; and the reference point."""
    signs = _signs(directions)
    losses = np.array([[record.metrics[name] for name, _ in directions] for record in usable])
    losses = losses.reshape(len(usable), len(directions)) * signs
    worst = losses.max(axis=0) if usable else np.zeros(len(directions))
    reference = [
        max(sign, 0.0) if name in _BOUNDED else worst[i]
        for i, ((name, _), sign) in enumerate(zip(directions, signs, strict=True))
    ]
    return losses, np.array(reference)


def _beaten(index: int, losses: np.ndarray) -> bool:
    """Whether another trial is at least as good everywhere, and better somewhere or earlier."""
    mine = losses[index]
    as_good = (losses <= mine).all(axis=1)
    better = as_good & (losses < mine).any(axis=1)
    return bool(better.any() or as_good[:index].any())
