"""The curve of the best so far on the study's run."""

from __future__ import annotations

import dataclasses
from typing import Any

from aiq_search.space import ObjectiveOptions
from aiq_search.study.events import TrialEnded, TrialState
from aiq_search.tracking import Outbox
from aiq_search.tracking.curve import BestCurve
from aiq_search.tracking.layout import Point
from tests.tracking.simulated import trials


def drawn(outbox: Outbox, ends: list[TrialEnded], **objective: Any) -> list[Point]:
    """The points of a curve, by aIQ."""
    outbox.put(ends)
    return [p for p in BestCurve(outbox, ObjectiveOptions(**objective)).missing() if p.name == "aiq"]


def test_it_only_rises_and_skips_the_infeasible(outbox: Outbox) -> None:
    made = trials(30)
    points = drawn(outbox, [t.ended() for t in made])
    assert [p.value for p in points] == sorted(p.value for p in points)
    feasible = [t.ended() for t in made if t.state is TrialState.COMPLETE and t.ended().feasible]
    assert points[-1].value == max(e.value or 0 for e in feasible)


def test_it_falls_where_less_is_better(outbox: Outbox) -> None:
    made = [dataclasses.replace(t.ended(), value=t.ended().metrics["loss"]) for t in trials(30)]
    losses = [made[p.step - 1].value or 0 for p in drawn(outbox, made, minimize="loss")]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) > 1


def test_what_is_written_is_not_written_again(outbox: Outbox) -> None:
    made = [t.ended() for t in trials(30)]
    outbox.put(made[:10])
    curve = BestCurve(outbox, ObjectiveOptions())
    first = curve.missing()
    curve.wrote(first)
    outbox.put(made[10:])
    later = BestCurve(outbox, ObjectiveOptions()).missing()  # of another delivery process
    assert later == curve.missing()
    assert min(p.step for p in later) > max(p.step for p in first)


def test_a_new_run_gets_the_whole_curve(outbox: Outbox) -> None:
    outbox.put([t.ended() for t in trials(30)])
    curve = BestCurve(outbox, ObjectiveOptions())
    points = curve.missing()
    curve.wrote(points)
    assert curve.missing() == []
    curve.restart()
    assert curve.missing() == points
