"""What a view makes of a search's events."""

from aiq_search.cli import view
from aiq_search.study import EpochEnded, Phase, TrialEnded, TrialKey, TrialStarted, TrialState
from aiq_search.study.events import PhaseStarted


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
