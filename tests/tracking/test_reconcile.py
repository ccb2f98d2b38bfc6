"""Reconciling the outbox with the study, which is the truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from aiq_search.study.events import TrialEnded, TrialState
from aiq_search.tracking import MlflowListener, Outbox, reconcile
from aiq_search.tracking.letters import event_id
from aiq_search.tracking.reconcile import events_of, events_of_record
from tests.tracking.conftest import runs_of
from tests.tracking.delivering import deliver
from tests.tracking.simulated import (
    STUDY,
    SimulatedStudy,
    SimulatedTrial,
    simulated_study,
    study_ended,
    study_started,
)


@pytest.fixture
def listener(study_directory: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> MlflowListener:
    made = MlflowListener(study_directory, store)
    monkeypatch.setattr(made, "_keep_delivering", lambda: None)
    return made


def test_the_events_of_a_record_are_those_that_were_sent() -> None:
    trial = SimulatedTrial(3)
    sent = {event_id(e): e for e in trial.events()}
    told = {event_id(e): e for e in events_of_record(trial.record())}
    assert told.keys() == sent.keys()
    for name, event in told.items():
        assert dataclasses.replace(event, time=0) == dataclasses.replace(sent[name], time=0)


def test_mlflow_gets_each_rung_once_as_metrics_of_their_own(
    outbox: Outbox, store: str, tmp_path: Path
) -> None:
    shown = {"aiq": 0.4, "accuracy": 0.5, "efficiency": 0.25, "loss": 1.0}
    rungs = [{"share": 0.125, "samples": 6250, **shown}, {"share": 0.25, "samples": 12_500, **shown}]
    record = dataclasses.replace(SimulatedTrial(3).record(), rungs=rungs)
    outbox.put([study_started(), *events_of_record(record)])
    deliver(outbox, store)
    # A fresh outbox is filled from the study, which does not know when the rungs were reached.
    (tmp_path / "again").mkdir()
    again = Outbox(tmp_path / "again")
    later = dataclasses.replace(record, started=(record.started or 0) + 0.1)
    again.put([study_started(), *events_of_record(later)])
    deliver(again, store)
    client, run = MlflowClient(store), runs_of(store)[str(record.key)]
    for name, value in shown.items():
        points = client.get_metric_history(run.info.run_id, f"rung_{name}")
        assert [(point.step, point.value) for point in points] == [(6250, value), (12_500, value)]
    assert {m.step for m in client.get_metric_history(run.info.run_id, "aiq")} <= set(range(1, 11))
    assert run.data.metrics["aiq"] == record.metrics["aiq"]


def test_a_study_whose_events_all_arrived_adds_nothing(listener: MlflowListener) -> None:
    study = simulated_study(6)
    for trial in study.trials:
        listener.put(trial.events())
    listener.put([study_started()])
    assert reconcile(study, listener) == 0


def test_what_the_outbox_lost_is_put_there_again(listener: MlflowListener) -> None:
    study = simulated_study(6)
    listener.put([study_started(), *study.trials[0].events()[:5]])
    assert reconcile(study, listener) == sum(len(t.events()) for t in study.trials) - 5
    assert reconcile(study, listener) == 0


def test_a_running_trial_is_told_without_an_end() -> None:
    record = dataclasses.replace(SimulatedTrial(0).record(), state=TrialState.RUNNING, ended=None)
    events = list(events_of_record(record))
    assert len(events) == 11
    assert not any(isinstance(e, TrialEnded) for e in events)


def test_a_trial_without_an_epoch_is_told() -> None:
    bare = dataclasses.replace(
        SimulatedTrial(0, state=TrialState.FAIL).record(),
        history={},
        metrics={},
        epoch=None,
        epochs=0,
        started=None,
    )
    assert [type(e).__name__ for e in events_of_record(bare)] == ["TrialStarted", "TrialEnded"]


def test_mlflow_gets_from_the_study_alone_what_it_gets_from_the_events(
    listener: MlflowListener, store: str
) -> None:
    study = simulated_study(4)
    reconcile(study, listener)
    listener.put([study_ended(study.trials)])
    deliver(listener.outbox, store)
    runs = runs_of(store)
    assert len(runs) == 1 + len(study.trials)
    assert runs[STUDY].info.status == "FINISHED"
    for trial in study.trials:
        run = runs[str(trial.key)]
        assert run.data.metrics == pytest.approx(trial.ended().metrics)
        assert run.data.tags["aiq.state"] == str(trial.state)


def test_a_study_is_told_from_its_start() -> None:
    assert next(iter(events_of(SimulatedStudy([])))) == study_started()


def test_reconciling_after_delivery_closes_what_was_lost_between(outbox: Outbox, store: str) -> None:
    trial = SimulatedTrial(0)
    outbox.put([study_started(), *trial.events()[:6]])
    deliver(outbox, store)
    outbox.put(events_of(SimulatedStudy([trial])))
    deliver(outbox, store)
    run = runs_of(store)[str(trial.key)]
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(trial.ended().metrics)
