"""The reference network: the most accurate one that a study has found, and the champion compared with it.

The headline of a search is how much accuracy its champion gives up, and how much smaller it is. One seed
against the mean of several would not be fair, nor would a search that never looked for accuracy. So after the
race the reference network is trained on the seeds that report the champion's numbers. Where the search did
not maximise accuracy, some configurations are first proposed for their accuracy alone: see
``search.reference``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiq_search.errors import NothingFeasibleError
from aiq_search.study.champion import Champion, Spread, most_accurate
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.metrics import HEADLINE, SIZES
from aiq_search.study.record import TrialRecord, without_retried

if TYPE_CHECKING:
    from aiq_search.study.view import StudyView

__all__ = ["Comparison", "compare", "comparison_of", "find_reference", "seeds_of"]


@dataclass(frozen=True)
class Comparison:
    """A champion beside the reference network.

    Attributes:
        champion: The champion.
        reference: The training that showed how accurate the reference network is: an exploring trial, or one
            that was proposed for its accuracy.
        ours: The champion's trainings on the seeds that both have, none where they have none in common.
        theirs: The reference network's, in the same order.
        points: By how many percentage points of accuracy the champion is worse: on the test split over the
            seeds that both have, else on the validation split, one exploring seed against another.
    """

    champion: Champion
    reference: TrialRecord
    ours: Sequence[TrialRecord]
    theirs: Sequence[TrialRecord]
    points: Spread

    @property
    def confirmed(self) -> bool:
        """Whether both were measured on the same fresh seeds."""
        return bool(self.theirs)

    @property
    def lost(self) -> str:
        """What the champion gives up in words: ``2.31 ± 0.20 percentage points less``."""
        error = f" ± {self.points.sd:.2f}" if self.points.n > 1 else ""
        more_or_less = "less" if self.points.mean >= 0 else "more"
        return f"{abs(self.points.mean):.2f}{error} percentage points {more_or_less}"

    @property
    def names(self) -> tuple[str, ...]:
        """What was measured on the test split, aIQ first; empty without common seeds."""
        there = (name for name in self.champion.test if name not in HEADLINE)
        return (*HEADLINE, *there) if self.confirmed else ()

    def spreads(self, records: Sequence[TrialRecord]) -> dict[str, Spread]:
        """Numbers of ``ours`` or ``theirs`` on the test split; 0 for a seed that collapsed or failed."""
        return {name: Spread.of([_test(record, name) for record in records]) for name in self.names}

    def size(self, name: str) -> tuple[float, float]:
        """A size of the champion, and of the reference network."""
        return self.champion.explored.metrics[name], self.reference.metrics[name]

    def document(self) -> dict[str, Any]:
        """As JSON: ``reference`` in ``aiq best --format json``."""
        sizes = {name: self.size(name) for name in SIZES}
        return {
            "trial": self.reference.key.number,
            "phase": str(self.reference.key.phase),
            "params": dict(self.reference.params),
            "confirmed": self.confirmed,
            "points_lost": self.points.document(),
            "test": {name: spread.document() for name, spread in self.spreads(self.theirs).items()},
            "champion_test": {name: spread.document() for name, spread in self.spreads(self.ours).items()},
            **{name: int(theirs) for name, (_, theirs) in sizes.items()},
            **{f"times_fewer_{name}": theirs / max(1.0, ours) for name, (ours, theirs) in sizes.items()},
        }


def find_reference(explored: Iterable[TrialRecord], proposed: Iterable[TrialRecord]) -> TrialRecord | None:
    """The training that showed the highest validation accuracy; the smaller network if several did.

    Args:
        explored: Exploring trials.
        proposed: Trials of the reference phase; its seeds do not count.
    """
    return most_accurate([*explored, *(record for record in proposed if record.replicate is None)])


def seeds_of(config_hash: str, records: Iterable[TrialRecord]) -> dict[int, TrialRecord]:
    """The finished trainings of a configuration on fresh seeds, by replicate."""
    return {
        record.replicate: record
        for record in without_retried(records)
        if record.config_hash == config_hash and record.replicate is not None and record.finished
    }


def compare(
    champion: Champion,
    explored: Sequence[TrialRecord],
    confirmed: Sequence[TrialRecord],
    referenced: Sequence[TrialRecord],
) -> Comparison | None:
    """The champion beside the reference network; None where it is the most accurate itself.

    Args:
        champion: The champion, or the best trial so far.
        explored: Exploring trials.
        confirmed: Confirmations.
        referenced: Trials of the reference phase.
    """
    reference = find_reference(explored, referenced)
    if reference is None or reference.config_hash == champion.explored.config_hash:
        return None
    theirs = seeds_of(reference.config_hash, [*confirmed, *referenced])
    ours = {r.replicate: r for r in champion.further if r.replicate in theirs}
    if ours:
        pairs = [(record, theirs[number]) for number, record in sorted(ours.items())]
        lost = [100 * (_test(b, "accuracy") - _test(a, "accuracy")) for a, b in pairs]
        return Comparison(champion, reference, [a for a, _ in pairs], [b for _, b in pairs], Spread.of(lost))
    difference = reference.metrics["accuracy"] - champion.explored.metrics["accuracy"]
    return Comparison(champion, reference, (), (), Spread.of([100 * difference]))


def comparison_of(study: StudyView) -> Comparison | None:
    """The champion of a study beside the reference network; None without a champion, or if it is the same."""
    try:
        champion = study.champion()
    except NothingFeasibleError:
        return None
    explored, confirmed, referenced = (study.records(phase) for phase in Phase)
    return compare(champion, explored, confirmed, referenced)


def _test(record: TrialRecord, name: str) -> float:
    worked = record.state is TrialState.COMPLETE and not record.collapsed
    return record.metrics.get(f"test/{name}", 0.0) if worked else 0.0
