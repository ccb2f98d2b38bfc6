"""The outbox forgets nothing, and telling an event twice changes nothing."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest

from aiq_search.errors import StudyError
from aiq_search.study.events import (
    EpochEnded,
    Phase,
    StudyStarted,
    TrialEnded,
    TrialKey,
    TrialStarted,
    TrialState,
)
from aiq_search.tracking import letters
from aiq_search.tracking.letters import decode, encode, event_id
from aiq_search.tracking.outbox import FILE, Outbox, OutboxDamagedError
from tests.tracking.simulated import STUDY, SimulatedTrial, study_ended, study_started, trials, whole_study


def test_every_event_comes_back_as_it_was() -> None:
    for event in list(whole_study())[1:]:
        assert decode(type(event).__name__, encode(event)) == event


def test_a_study_s_start_comes_back_without_credentials() -> None:
    event = study_started()
    back = decode("StudyStarted", encode(event))
    assert isinstance(back, StudyStarted)
    assert back.document["provenance"]["command"][-1] == "https://***@mlflow.example.org"
    assert back.document | {"provenance": None} == dict(event.document) | {"provenance": None}


def test_a_traceback_with_a_secret_in_its_quotes_stays_an_event_without_the_secret(outbox: Outbox) -> None:
    ended = TrialEnded(
        TrialKey(STUDY, Phase.EXPLORE, 0),
        TrialState.FAIL,
        1.0,
        reason="HTTPError: 403",
        traceback='  urlopen("https://h/x?token=abc")\n  open("postgresql://ada:love/lace@h/db")',
    )
    outbox.put([ended])
    [letter] = outbox.waiting()
    assert isinstance(letter.event, TrialEnded)
    assert letter.event.traceback == '  urlopen("https://h/x?token=***")\n  open("postgresql://***@h/db")'


def test_numbers_of_numpy_come_back_as_python_s() -> None:
    event = EpochEnded(TrialKey(STUDY, "explore", 1), 1, {"aiq": np.float32(0.5)}, 0.0)  # type: ignore[arg-type]
    assert json.loads(encode(event))["metrics"] == {"aiq": 0.5}


def test_events_wait_in_the_order_in_which_they_happened(outbox: Outbox) -> None:
    events = list(whole_study())
    assert outbox.put(events) == len(events)
    assert [x.event for x in outbox.waiting()][1:] == events[1:]


def test_telling_a_whole_study_again_adds_nothing(outbox: Outbox) -> None:
    outbox.put(whole_study())
    assert outbox.put(whole_study()) == 0


def test_each_start_of_a_study_is_an_event_of_its_own(outbox: Outbox) -> None:
    assert outbox.put([study_started(), study_started(resumed=True, time=9e9)]) == 2


def test_each_resumption_of_a_trial_is_an_event_but_its_first_start_is_one() -> None:
    trial = SimulatedTrial(3)
    ids = [
        event_id(trial.started(time=1.0)),
        event_id(trial.started(time=2.0)),
        event_id(trial.started(resumed=True, time=2.0)),
        event_id(trial.started(resumed=True, time=3.0)),
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_what_was_delivered_waits_no_more_and_survives_reopening(study_directory: Path) -> None:
    first = Outbox(study_directory)
    first.put(whole_study())
    letters = first.waiting()
    first.delivered(letters[:10])
    first.remember_runs({STUDY: "run"})
    first.close()
    again = Outbox(study_directory)
    assert again.waiting() == letters[10:]
    assert again.runs() == {STUDY: "run"}
    again.close()


def test_a_forgotten_run_makes_all_its_events_wait_again(outbox: Outbox) -> None:
    trial = SimulatedTrial(0)
    outbox.put([study_started(), *trial.events()])
    outbox.remember_runs({str(trial.key): "run"})
    outbox.delivered(outbox.waiting())
    outbox.forget_runs([str(trial.key)])
    assert [x.event for x in outbox.waiting()] == trial.events()
    assert outbox.runs() == {}


def test_the_history_has_delivered_events_of_one_kind_and_owner(outbox: Outbox) -> None:
    one, two = SimulatedTrial(0), SimulatedTrial(1)
    outbox.put([*one.events(), *two.events()])
    outbox.delivered(outbox.waiting())
    assert [x.event for x in outbox.history(TrialStarted, str(two.key))] == [two.started()]
    assert len(outbox.history(TrialEnded)) == 2


def test_what_is_missing_is_counted_in_events_and_trials(outbox: Outbox) -> None:
    made = trials(2)
    outbox.put([study_started(), *made[0].events(), *made[1].events(), study_ended(made)])
    missing = outbox.undelivered()
    assert (missing.waiting, missing.trials) == (26, 2)
    outbox.refused(outbox.waiting()[:1], "no such metric")
    assert outbox.undelivered().refused == 1
    assert "no such metric" in str(outbox.undelivered())
    outbox.delivered(outbox.waiting())
    outbox.delivered(outbox.history()[:1])
    assert not outbox.undelivered()
    assert str(outbox.undelivered()) == "MLflow has everything."


def test_what_is_asked_for_each_trial_is_found_by_an_index(outbox: Outbox) -> None:
    questions = []
    outbox._connection.set_trace_callback(questions.append)
    outbox.history(EpochEnded, "a trial")
    outbox.history(TrialEnded, after=7)
    outbox.waiting()
    outbox.has_more(7)
    outbox.undelivered()
    outbox._connection.set_trace_callback(None)
    plans = {q: outbox._connection.execute(f"EXPLAIN QUERY PLAN {q}").fetchall() for q in questions}
    for question, plan in plans.items():
        read = [step for *_, step in plan if "events" in step]
        assert all("USING" in step for step in read), f"{question} reads every event: {plan}"
    [epochs] = [plan for question, plan in plans.items() if "owner = 'a trial'" in question]
    assert "owner=? AND kind=?" in str(epochs)


def _put_trials(directory: str, first: int) -> None:
    box = Outbox(Path(directory))
    for number in range(first, first + 20):
        for event in SimulatedTrial(number).events():
            box.put([event])


def test_two_processes_may_write_at_once(study_directory: Path, outbox: Outbox) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_put_trials, args=(str(study_directory), n)) for n in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [w.exitcode for w in writers] == [0, 0]
    assert len(outbox.waiting()) == 30 * 12


@pytest.mark.parametrize("name", ["store", "error"])
def test_facts_are_remembered_until_they_are_forgotten(outbox: Outbox, name: str) -> None:
    outbox.remember(name, "a")
    outbox.remember(name, "b")
    assert outbox.fact(name) == "b"
    outbox.remember(name, None)
    assert outbox.fact(name) is None


def test_a_damaged_file_is_an_error_unless_it_may_be_made_again(study_directory: Path) -> None:
    study_directory.mkdir(parents=True)
    path = study_directory / FILE
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(OutboxDamagedError, match=r"outbox\.sqlite is damaged \(file is not a database\)"):
        Outbox(study_directory)
    box = Outbox(study_directory, rebuild=True)
    assert "file is not a database" in str(box.damage)
    assert path.with_suffix(".damaged").read_bytes().startswith(b"no database")
    assert box.put(whole_study()) > 0
    box.close()
    again = Outbox(study_directory, rebuild=True)
    assert again.damage is None
    assert again.waiting()
    again.close()


def test_an_event_that_cannot_be_read_is_set_aside_and_the_study_can_put_it_again(outbox: Outbox) -> None:
    events = SimulatedTrial(0).events()
    outbox.put(events)
    outbox._connection.execute("UPDATE events SET payload = substr(payload, 1, 40) WHERE row = 2")
    outbox._connection.execute("UPDATE events SET kind = 'WeightsMoved' WHERE row = 3")
    outbox._connection.execute("UPDATE events SET state = 1 WHERE row = 3")
    assert [x.event for x in outbox.waiting()] == [events[0], *events[3:]]
    left = outbox.undelivered()
    assert (left.waiting, left.aside) == (len(events) - 2, 1)
    assert "1 unreadable and set aside" in str(left)
    assert outbox.history(EpochEnded)[0].event == events[3]
    assert outbox.event_ids() == {event_id(e) for e in [events[0], *events[3:]]}
    assert outbox.put(events) == 2
    assert [x.event for x in outbox.waiting()] == [*events[:2], *events[3:]]  # the other had been delivered
    assert not outbox.undelivered().aside


def test_what_a_later_version_wrote_waits_for_one_that_reads_it(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.put([study_started(), study_ended([])])
    monkeypatch.delitem(letters._KINDS, "StudyEnded")
    assert len(outbox.waiting()) == 1
    assert "does not know the kind 'StudyEnded'" in str(outbox.undelivered())
    assert outbox.discard_damaged() == []
    monkeypatch.undo()
    outbox.retry_set_aside()
    assert len(outbox.waiting()) == 2


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("EpochEnded", "{"),
        ("EpochEnded", "null"),
        ("EpochEnded", "[" * 10**5),
        ("EpochEnded", '{"epoch": 1}'),
        (
            "EpochEnded",
            '{"key": {"study": "s", "phase": "x", "number": 1}, "epoch": 1, "metrics": {}, "time": 0}',
        ),
        ("EpochEnded", '{"key": {"study": "s", "phase": "explore", "number": 1}, "epoch": 1, "metrics": 5}'),
        ("TrialPaused", "{}"),
    ],
)
def test_what_no_event_can_be_is_unreadable(kind: str, payload: str) -> None:
    with pytest.raises(letters.UnreadableError):
        decode(kind, payload)


def test_an_outbox_of_a_later_version_is_refused(study_directory: Path, outbox: Outbox) -> None:
    outbox._connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StudyError, match="written by a later version of aiq-search"):
        Outbox(study_directory, rebuild=True)


def test_the_outbox_of_version_1_opens(study_directory: Path) -> None:
    study_directory.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "frozen" / "outbox-1.sqlite", study_directory / FILE)
    box = Outbox(study_directory)
    trial = SimulatedTrial(0)
    events = [study_started(), *trial.events(), study_ended([trial])]
    assert len(box.event_ids()) == len(events)
    assert [x.event for x in box.waiting()] == events[5:]
    assert box.runs() == {STUDY: "run"}
    assert box.fact("store") == "sqlite"
    box.close()
