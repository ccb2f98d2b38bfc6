"""What a view makes of a search's events."""

import io

import pytest
from rich.console import Console

from aiq_search.study import EpochEnded, Phase, TrialEnded, TrialKey, TrialStarted, TrialState
from aiq_search.study.events import PhaseStarted, StudyEnded, StudyStarted
from aiq_search.terminal import tally, view
from tests.app.test_choice import LARGE, SMALL, reported
from tests.search.simulation import StudyDriver, finish, new_study, run, simulated_space


def test_time_left_is_told_from_the_first_epoch_on_once_there_is_a_pace(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(tally.time, "monotonic", lambda: now[0])
    counts = tally.Tally()
    counts.take(PhaseStarted("s", Phase.EXPLORE, 10, 0, 0.0))
    now[0] += 30  # workers start
    left = []
    for number in range(4):
        key = TrialKey("s", Phase.EXPLORE, number)
        counts.take(TrialStarted(key, {}, 0, "", 0.0))
        counts.take(EpochEnded(key, 1, {"aiq": 0.5}, 0.0))
        now[0] += 2
        counts.take(TrialEnded(key, TrialState.PRUNED, 0.0))
        left.append(counts.seconds_left)
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
    document = {"space": simulated_space(objective=objective).document()}
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


def shown_at(width=200):
    printed = io.StringIO()
    console = Console(file=printed, width=width, force_terminal=True, color_system=None)
    return view.search_view(console, publishes=True), console, printed


def test_a_view_that_made_way_erases_nothing_of_what_was_printed_meanwhile():
    shown, console, printed = shown_at()
    with shown:
        shown.on_event(PhaseStarted("s", Phase.EXPLORE, 10, 0, 0.0))
        shown._live.refresh()
        with shown.aside():
            console.print("Champion: trial 1")
        after = printed.getvalue().partition("Champion")[2]
        shown._live.refresh()
        drawn_again = printed.getvalue().partition("Champion")[2].removeprefix(after)
    assert "exploring" in drawn_again
    assert "\x1b[1A" not in drawn_again.partition("exploring")[0]  # cursor up


def drawn(shown, console):
    with console.capture() as capture:
        console.print(shown._draw())
    return capture.get()


def test_a_resumed_study_is_shown_with_what_it_has(tmp_path):
    study = new_study(tmp_path, search={"trials": 12}, confirm={"finalists": 0})
    driver = StudyDriver(study)
    driver.begin()
    run(driver, stop_after=4 * 5)
    before = study.champion().trial
    shown, console, _ = shown_at()
    again = StudyDriver(study, [shown])
    again.begin()
    again.next_assignment()
    picture = drawn(shown, console)
    assert "5/12" in picture
    assert "5 complete" in picture
    assert f"best so far  trial-{before:04d}: aIQ" in picture


def test_after_the_last_trial_the_view_names_what_runs(tmp_path):
    shown, console, _ = shown_at()
    finish(new_study(tmp_path, search={"trials": 5}, confirm={"finalists": 0}), [shown])
    picture = drawn(shown, console)
    assert "exporting the champion and writing the report, delivering to MLflow" in picture
    assert "left" not in picture
    assert "5/5" not in picture
    shown.on_event(StudyEnded("study", "interrupted", 0.0, {}))
    assert "exporting" not in drawn(shown, console)


def test_in_a_pipe_too(tmp_path):
    printed = io.StringIO()
    shown = view.search_view(Console(file=printed, width=200), publishes=True)
    finish(new_study(tmp_path, search={"trials": 5}, confirm={"finalists": 0}), [shown])
    lines = printed.getvalue().splitlines()
    assert lines[1] == "exploring: 5 trials"
    assert lines[-2:] == [
        "finished study study",
        "exporting the champion and writing the report, delivering to MLflow …",
    ]


def test_no_time_is_left_after_the_last_trial():
    counts = tally.Tally()
    counts.take(PhaseStarted("s", Phase.EXPLORE, 4, 0, 0.0))
    for number in range(4):
        key = TrialKey("s", Phase.EXPLORE, number)
        counts.take(TrialStarted(key, {}, 0, "", 0.0))
        counts.take(EpochEnded(key, 1, {"aiq": 0.5}, 0.0))
        counts.take(TrialEnded(key, TrialState.PRUNED, 0.0))
    assert counts.seconds_left is None


def test_a_finalist_that_misses_a_constraint_on_average_is_no_longer_the_best(tmp_path):
    """5-5 leads while exploring, and fresh seeds refuse it."""
    shown, console, _ = shown_at()
    study = new_study(
        tmp_path,
        enqueue=[SMALL, LARGE],
        search={"trials": 4},
        confirm={"finalists": 2, "seeds": 3},
        objective={"constraints": ["accuracy >= 0.9"]},
    )
    finish(study, [shown], change=reported)
    picture = drawn(shown, console)
    assert "leading  trial-0001: mean aIQ 0.85" in picture
    assert (
        "refused  trial-0000: misses accuracy >= 0.9 (mean 0.896) on average; met on 2 of 3 seeds" in picture
    )
    assert "best so far" not in picture
