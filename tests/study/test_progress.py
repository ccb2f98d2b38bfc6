"""One notion of the best so far, whoever asks: driver, MLflow, report and terminal."""

from __future__ import annotations

import dataclasses
import io
import random
from typing import Any

import pytest
from rich.console import Console

from aiq_search.search.ledger import Ledger
from aiq_search.space import ObjectiveOptions
from aiq_search.study import Phase, TrialKey, TrialRecord, TrialState
from aiq_search.study.champion import choose_finalists
from aiq_search.study.events import StudyStarted
from aiq_search.study.progress import Best
from aiq_search.terminal.view import SearchView
from tests.search.simulation import simulated_space

OBJECTIVES: list[dict[str, Any]] = [
    {"maximize": "aiq"},
    {"minimize": "loss"},
    {"minimize": "parameters"},
    {"maximize": "accuracy"},
    {"maximize": ["accuracy", "efficiency"]},
]


def record(number: int, **fields: Any) -> TrialRecord:
    """A trial with numbers of its own: by aIQ, loss and size different trials are the best."""
    draw = random.Random(number)
    metrics = {name: draw.random() for name in ("aiq", "accuracy", "efficiency", "loss")}
    metrics |= {name: float(draw.randrange(10**6)) for name in ("parameters", "parameters_weights", "macs")}
    made = TrialRecord(
        TrialKey("s", Phase.EXPLORE, number),
        draw.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]),
        {},
        seed=0,
        config_hash=str(number),
        metrics=metrics,
        feasible=draw.random() < 0.7,
        collapsed=draw.random() < 0.2,
    )
    return dataclasses.replace(made, **fields)


def lucky(number: int) -> TrialRecord:
    """A confirmation that is better than every trial by any number."""
    numbers = {"aiq": 2.0, "accuracy": 2.0, "efficiency": 2.0, "loss": -1.0, "parameters": -1.0}
    fields: dict[str, Any] = {"state": TrialState.COMPLETE, "feasible": True, "collapsed": False}
    return record(
        number, key=TrialKey("s", Phase.CONFIRM, number), origin=0, replicate=0, metrics=numbers, **fields
    )


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_ledger_and_terminal_have_the_best_that_confirming_begins_with(objective: dict[str, Any]) -> None:
    space = simulated_space(objective=objective)
    ledger, view = Ledger(space.objective), SearchView(Console(file=io.StringIO()))
    view.on_event(StudyStarted("s", "simulated", {"space": space.document()}, False, 0.0))
    records = [lucky(n) if n % 10 == 9 else record(n) for n in range(60)]
    for each in records:
        ledger.add(each)
        view.on_event(each.told(0.0))
    [best] = choose_finalists(space, [r for r in records if r.key.phase is Phase.EXPLORE], 1)
    assert ledger.best is best
    assert view._tally.best.trial is not None
    assert view._tally.best.trial.key == best.key


@pytest.mark.parametrize(
    "fields",
    [
        {"collapsed": True},
        {"feasible": False},
        {"feasible": None},
        {"state": TrialState.PRUNED},
        {"metrics": {}},
    ],
    ids=str,
)
def test_a_trial_that_does_not_count_is_no_best(fields: dict[str, Any]) -> None:
    good: dict[str, Any] = {"state": TrialState.COMPLETE, "feasible": True, "collapsed": False}
    best: Best[TrialRecord] = Best(ObjectiveOptions(minimize="parameters"))
    assert not best.add(record(0, **(good | fields)))
    assert best.trial is None
    assert best.add(record(1, **good))
    assert (best.ended, best.since) == (2, 0)


def test_of_equals_the_first_stays() -> None:
    good: dict[str, Any] = {"state": TrialState.COMPLETE, "feasible": True, "collapsed": False}
    first, second = (record(n, metrics={"aiq": 0.5}, **good) for n in range(2))
    best: Best[TrialRecord] = Best(ObjectiveOptions())
    assert best.add(first)
    assert not best.add(second)
    assert best.trial is first
    assert best.since == 1
