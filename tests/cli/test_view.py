"""What a view makes of a search's events."""

import io

import pytest
from rich.console import Console

from aiq_search.cli import view
from aiq_search.study import EpochEnded, Phase, TrialEnded, TrialKey, TrialStarted, TrialState
from aiq_search.study.events import PhaseStarted, StudyStarted


def test_time_left_is_told_from_the_first_epoch_on_once_there_is_a_pace(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    tally = view._Tally()
    tally.take(PhaseStarted("s", Phase.EXPLORE, 10, 0, 0.0))
    now[0] += 30  # workers start
    left = []
    for number in range(4):
        key = TrialKey("s", Phase.EXPLORE, number)
        tally.take(TrialStarted(key, {}, 0, "", 0.0))
        tally.take(EpochEnded(key, 1, {"aiq": 0.5}, 0.0))
        now[0] += 2
        tally.take(TrialEnded(key, TrialState.PRUNED, 0.0))
        left.append(tally.seconds_left)
    assert left == [None, None, 14.0, 12.0]


def ended(number, **numbers):
    metrics = {"aiq": 0.5, "accuracy": 0.9, "efficiency": 0.2, "loss": 0.1, "parameters": 100.0} | numbers
    key = TrialKey("s", Phase.EXPLORE, number)
    return TrialEnded(key, TrialState.COMPLETE, 0.0, value=0.0, epochs=1, metrics=metrics, feasible=True)


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize(
    ("objective", "best", "first"),
    [
        ({}, {"aiq": 0.6, "parameters": 900.0}, "aIQ 0.6000"),
        ({"minimize": "parameters"}, {"aiq": 0.4, "parameters": 7.0}, "7 parameters"),
        ({"minimize": "loss"}, {"aiq": 0.4, "loss": 0.01}, "loss 0.0100"),
    ],
)
def test_the_best_so_far_is_the_best_by_the_objective(terminal, objective, best, first):
    printed = io.StringIO()
    shown = view.search_view(Console(file=printed, width=200, force_terminal=terminal, color_system=None))
    document = {"space": {"objective": objective}}
    worse = {"aiq": 0.45, "loss": 0.2, "parameters": 200.0} if not objective else {"aiq": 0.9}
    for event in (
        StudyStarted("s", "space", document, False, 0.0),
        ended(0),
        ended(1, **best),
        ended(2, **worse),
    ):
        shown.on_event(event)
    if terminal:
        assert [line for line in printed.getvalue().splitlines() if "s/explore" in line][-1].startswith(
            f"s/explore/1: {first}"
        )
        assert f"best so far  s/explore/1: {first}" in str(shown._draw().renderables[-1])
    else:
        lines = [line for line in printed.getvalue().splitlines() if line.endswith("best so far")]
        assert [line.split()[1] for line in lines] == ["s/explore/0", "s/explore/1"]
