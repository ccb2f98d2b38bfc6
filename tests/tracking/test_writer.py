"""Writing to MLflow: once and only once, in few requests, whatever fails on the way."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from aiq_search.study.events import EpochEnded, Phase, TrialState
from aiq_search.tracking import Outbox
from aiq_search.tracking.reconcile import events_of
from aiq_search.tracking.writer import RunWriter
from tests.tracking.conftest import runs_of
from tests.tracking.delivering import deliver
from tests.tracking.simulated import (
    STUDY,
    SimulatedTrial,
    confirmations,
    simulated_study,
    study_ended,
    study_started,
    trials,
    whole_study,
)

REQUESTS = (
    *("create_run", "log_batch", "set_terminated", "update_run", "search_runs", "log_inputs", "delete_run"),
    *("create_experiment", "get_experiment_by_name", "set_experiment_tag"),
)


class Wire:
    """Counts the requests to MLflow, and cuts the connection before or after the n-th."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[str] = []
        self.cut_at: int | None = None
        self.after = False
        for name in REQUESTS:
            monkeypatch.setattr(MlflowClient, name, self._wrapped(name, getattr(MlflowClient, name)))

    def _wrapped(self, name: str, request: Any) -> Any:
        def send(*args: Any, **kwargs: Any) -> Any:
            cut = self.cut_at == len(self.sent)
            self.sent.append(name)
            if cut and not self.after:
                raise MlflowException("connection refused")
            answer = request(*args, **kwargs)
            if cut:
                raise MlflowException("the answer was lost")
            return answer

        return send


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def picture(store: str) -> dict[str, Any]:
    """All of MLflow that does not differ between two deliveries of the same events."""
    client = MlflowClient(store)
    runs = runs_of(store)
    names = {run.info.run_id: run.info.run_name for run in runs.values()}
    seen = {}
    for key, run in runs.items():
        tags = {k: v for k, v in run.data.tags.items() if v and k != "mlflow.parentRunId"}
        parent = names.get(run.data.tags.get("mlflow.parentRunId", ""))
        curve = [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, "aiq")]
        info = (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time)
        seen[key] = (info, parent, run.data.params, run.data.metrics, tags, sorted(curve))
    return seen


def test_a_study_has_a_parent_its_trials_and_their_confirmations(outbox: Outbox, store: str) -> None:
    outbox.put(whole_study(6))
    deliver(outbox, store)
    seen = picture(store)
    assert len(seen) == 1 + 6 + 6
    status = {key: info[1] for key, (info, *_) in seen.items()}
    assert status[STUDY] == "FINISHED"
    assert status[f"{STUDY}/explore/0"] == "FINISHED"
    assert status[f"{STUDY}/explore/2"] == "KILLED"
    for trial in trials(6):
        _, parent, params, metrics, tags, _ = seen[str(trial.key)]
        assert parent == STUDY
        assert params == {k: str(v) for k, v in trial.params.items()}
        assert metrics == pytest.approx(trial.ended().metrics)
        assert tags["aiq.epoch"] == str(trial.chosen)
    again = confirmations(trials(6))[0]
    assert seen[str(again.key)][1].startswith(f"trial-{again.origin:04d}")


def test_a_curve_has_a_point_an_epoch(outbox: Outbox, store: str) -> None:
    trial = SimulatedTrial(0)
    outbox.put([study_started(), *trial.events()])
    deliver(outbox, store)
    curve = picture(store)[str(trial.key)][-1]
    assert [step for step, _, _ in curve] == [*range(1, 11), 10]
    assert [value for _, _, value in curve[:10]] == pytest.approx([h["aiq"] for h in trial.history])


def test_a_finished_trial_takes_three_requests(outbox: Outbox, store: str, wire: Wire) -> None:
    outbox.put([study_started()])
    writer = RunWriter(outbox, store)
    deliver(outbox, store, writer)
    wire.sent.clear()
    outbox.put(SimulatedTrial(0, state=TrialState.PRUNED).events())
    deliver(outbox, store, writer)
    assert wire.sent == ["create_run", "log_batch", "set_terminated"]


def test_a_flush_of_a_running_trial_takes_one_request(outbox: Outbox, store: str, wire: Wire) -> None:
    trial = SimulatedTrial(0)
    writer = RunWriter(outbox, store)
    outbox.put([study_started(), *trial.events()[:3]])
    deliver(outbox, store, writer)
    wire.sent.clear()
    outbox.put(trial.events()[3:7])
    deliver(outbox, store, writer)
    assert wire.sent == ["log_batch"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_connection_cut_at_any_request_changes_nothing_in_the_end(
    tmp_path: Path, store: str, wire: Wire, after: bool
) -> None:
    made = [SimulatedTrial(0), SimulatedTrial(1, state=TrialState.PRUNED)]
    made.append(confirmations(made)[0])
    events = [study_started(), *(e for t in made for e in t.events()), study_ended(made)]
    names = iter(range(1000))

    def run(cut_at: int | None) -> tuple[dict[str, Any], int]:
        folder = tmp_path / str(next(names))
        folder.mkdir()
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        (folder / "mlflow.db").write_bytes((tmp_path / "mlflow.db").read_bytes())
        outbox = Outbox(folder)
        outbox.put(events)
        wire.sent.clear()
        wire.cut_at, wire.after = cut_at, after
        try:
            deliver(outbox, uri)
        except MlflowException:
            wire.cut_at = None
            deliver(outbox, uri)
        assert not outbox.undelivered()
        sent = len(wire.sent)
        wire.cut_at = None
        seen = picture(uri)
        outbox.close()
        return seen, sent

    expected, requests = run(None)
    assert requests > 12
    for cut_at in range(requests):
        seen, _ = run(cut_at)
        assert seen == expected, f"cut {'after' if after else 'before'} request {cut_at}"


def test_the_same_writer_continues_after_a_cut(outbox: Outbox, store: str, wire: Wire) -> None:
    outbox.put(whole_study(2))
    writer = RunWriter(outbox, store)
    wire.cut_at, wire.after = 6, True
    with pytest.raises(MlflowException):
        deliver(outbox, store, writer)
    writer.doubt()
    deliver(outbox, store, writer)
    assert len(runs_of(store)) == 1 + 2 + 6


def test_a_lost_outbox_makes_no_second_run(tmp_path: Path, store: str) -> None:
    for name in ("one", "two"):
        box = Outbox(tmp_path / name)
        box.put(whole_study(3))
        deliver(box, store)
        box.close()
    assert len(runs_of(store)) == 1 + 3 + 6


def histories(store: str) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Every value of every metric, by run and name."""
    client = MlflowClient(store)
    return {
        (owner, name): sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))
        for owner, run in runs_of(store).items()
        for name in run.data.metrics
    }


@pytest.mark.parametrize("stopped_after", [1, 30, 60, None])
def test_an_outbox_filled_again_from_the_study_writes_no_number_twice(
    tmp_path: Path, store: str, empty_store: Path, stopped_after: int | None
) -> None:
    """The study does not know when each epoch ended: its events have other times than those sent before."""
    study = simulated_study(6)
    lived = [study_started(), *(e for t in study.trials for e in t.events()), study_ended(study.trials)]
    once = tmp_path / "once.db"
    once.write_bytes(empty_store.read_bytes())
    for name, uri, events in (
        ("whole", f"sqlite:///{once}", lived),
        ("lost", store, lived[:stopped_after]),
        ("again", store, [*events_of(study), study_ended(study.trials)]),
    ):
        box = Outbox(tmp_path / name)
        box.put(events)
        deliver(box, uri)
        box.close()
    assert histories(store) == histories(f"sqlite:///{once}")


def test_a_lost_database_is_filled_again(
    outbox: Outbox, store: str, empty_store: Path, tmp_path: Path
) -> None:
    outbox.put(whole_study(3))
    deliver(outbox, store)
    before = picture(store)
    other = tmp_path / "other.db"
    other.write_bytes(empty_store.read_bytes())
    outbox.put([study_started(resumed=True, time=9e9)])
    deliver(outbox, f"sqlite:///{other}")
    assert set(picture(f"sqlite:///{other}")) == set(before)


def test_a_second_run_of_a_trial_is_removed(outbox: Outbox, store: str) -> None:
    outbox.put([study_started(), *SimulatedTrial(0).events()])
    deliver(outbox, store)
    run = runs_of(store)[f"{STUDY}/explore/0"]
    client = MlflowClient(store)
    client.create_run(
        run.info.experiment_id, tags={k: run.data.tags[k] for k in ("aiq.study", "aiq.trial_key")}
    )
    outbox.put(SimulatedTrial(1).events())
    deliver(outbox, store)
    assert runs_of(store)[f"{STUDY}/explore/0"].info.run_id == run.info.run_id


def test_an_interrupted_study_leaves_nothing_running_and_goes_on_in_the_same_runs(
    outbox: Outbox, store: str
) -> None:
    trial = SimulatedTrial(0)
    outbox.put([study_started(), *trial.events()[:4], study_ended([], "interrupted")])
    deliver(outbox, store)
    runs = runs_of(store)
    assert {r.info.status for r in runs.values()} == {"KILLED"}
    assert runs[str(trial.key)].data.tags["aiq.state"] == "INTERRUPTED"
    assert "aiq resume" in runs[str(trial.key)].data.tags["aiq.reason"]
    outbox.put([study_started(resumed=True, time=9e9), trial.started(resumed=True, time=9e9)])
    deliver(outbox, store)
    assert {r.info.status for r in runs_of(store).values()} == {"RUNNING"}
    outbox.put([*trial.events()[4:], study_ended([trial], time=9e9)])
    deliver(outbox, store)
    after = runs_of(store)
    assert {r.info.status for r in after.values()} == {"FINISHED"}
    assert after[str(trial.key)].info.run_id == runs[str(trial.key)].info.run_id
    assert after[str(trial.key)].data.tags["aiq.reason"] == ""
    assert after[str(trial.key)].data.metrics == pytest.approx(trial.ended().metrics)


def test_what_mlflow_refuses_is_reported_and_holds_up_nothing(outbox: Outbox, store: str) -> None:
    bad = SimulatedTrial(0)
    epoch = EpochEnded(bad.key, 1, {"no such ☃": 1.0}, bad.start)
    outbox.put([study_started(), bad.started(), epoch, bad.ended(), *SimulatedTrial(1).events()])
    deliver(outbox, store)
    left = outbox.undelivered()
    assert (left.waiting, left.refused) == (0, 3)
    assert "no such" in str(left)
    runs = runs_of(store)
    assert runs[str(bad.key)].info.status == "FAILED"
    assert runs[f"{STUDY}/explore/1"].info.status == "FINISHED"


def test_a_run_that_the_user_deleted_stays_deleted(outbox: Outbox, store: str) -> None:
    trial = SimulatedTrial(0)
    outbox.put([study_started(), *trial.events()[:4]])
    deliver(outbox, store)
    MlflowClient(store).delete_run(runs_of(store)[str(trial.key)].info.run_id)
    outbox.put(trial.events()[4:])
    deliver(outbox, store)
    assert str(trial.key) not in runs_of(store)
    assert outbox.undelivered().refused


def test_a_study_s_run_that_the_user_deleted_holds_up_no_trial(outbox: Outbox, store: str) -> None:
    made = trials(3)
    outbox.put([study_started(), *made[0].events()])
    writer = RunWriter(outbox, store)
    deliver(outbox, store, writer)
    MlflowClient(store).delete_run(runs_of(store)[STUDY].info.run_id)
    outbox.put([*(e for t in made[1:] for e in t.events()), study_ended(made)])
    deliver(outbox, store, writer)
    assert outbox.undelivered().waiting == 0
    assert outbox.undelivered().refused == 1
    assert set(runs_of(store)) == {str(t.key) for t in made}


def test_a_deleted_experiment_comes_back(outbox: Outbox, store: str) -> None:
    client = MlflowClient(store)
    client.delete_experiment(client.create_experiment("lenet-5-digits"))
    outbox.put(whole_study(2))
    deliver(outbox, store)
    assert len(runs_of(store)) == 1 + 2 + 6


def test_the_parent_tells_the_best_so_far_and_then_the_champion(outbox: Outbox, store: str) -> None:
    made = trials(12)
    outbox.put([study_started(), *(e for t in made for e in t.events())])
    deliver(outbox, store)
    best = max(t.ended().value or 0 for t in made if t.state is TrialState.COMPLETE and t.ended().feasible)
    assert runs_of(store)[STUDY].data.metrics["aiq"] == pytest.approx(best)
    ended = study_ended(made)
    outbox.put([ended])
    deliver(outbox, store)
    parent = runs_of(store)[STUDY]
    assert ended.champion is not None
    assert parent.data.metrics["aiq"] == pytest.approx(ended.champion["metrics"]["validation"]["aiq"]["mean"])
    number = ended.champion["trial"]
    assert f"**{'-'.join(map(str, made[number].widths))} won**" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["aiq.counts"] == "7 COMPLETE, 4 PRUNED, 1 FAIL"
    assert parent.inputs.dataset_inputs[0].dataset.digest == "0123456789abcdef"


def test_artifacts_lie_beside_the_database(outbox: Outbox, store: str, tmp_path: Path) -> None:
    outbox.put([study_started()])
    deliver(outbox, store)
    uri = runs_of(store)[STUDY].info.artifact_uri
    assert uri.startswith((tmp_path / "mlartifacts").as_uri())


def test_credentials_reach_neither_tags_nor_parameters(outbox: Outbox, store: str) -> None:
    trial = SimulatedTrial(0)
    started = dataclasses.replace(trial.started(), params={"dataset.url": "https://ada:lovelace@host/x"})
    failed = dataclasses.replace(
        trial.ended(), state=TrialState.FAIL, reason="no postgresql://ada:lovelace@db/x"
    )
    outbox.put([study_started(), started, failed, study_ended([], "failed")])
    deliver(outbox, store)
    for run in runs_of(store).values():
        assert "lovelace" not in str(run.to_dictionary())


def test_a_confirmation_of_an_unknown_trial_lies_under_the_study(outbox: Outbox, store: str) -> None:
    trial = SimulatedTrial(0, phase=Phase.CONFIRM, origin=99, replicate=0)
    outbox.put([study_started(), *trial.events()])
    deliver(outbox, store)
    assert picture(store)[str(trial.key)][1] == STUDY


@pytest.mark.parametrize(("before", "after"), [("delete", "persist"), ("wal", "wal")])
def test_the_journal_of_a_file_stays_while_we_write_unless_its_owner_chose(
    outbox: Outbox, store: str, tmp_path: Path, before: str, after: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as owner:
        assert owner.execute(f"PRAGMA journal_mode = {before}").fetchone() == (before,)
    with sqlalchemy.create_engine(store).connect() as connection:  # one of the delivery process
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == after
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == (before,)
