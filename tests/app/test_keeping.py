"""The report of a study is kept with the study's run in MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiq_search.app.publish import keep_report
from aiq_search.tracking import MlflowListener
from tests.tracking.conftest import empty_store, runs_of, store, study_directory  # noqa: F401 - fixtures
from tests.tracking.delivering import deliver
from tests.tracking.simulated import STUDY, simulated_study, study_started


@pytest.fixture
def listener(study_directory: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> MlflowListener:  # noqa: F811
    made = MlflowListener(study_directory, store)
    monkeypatch.setattr(made, "_keep_delivering", lambda: None)
    made.put([study_started()])
    return made


def test_report_pictures_and_study_are_kept_with_the_study_s_run(
    listener: MlflowListener,
    store: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    from mlflow.tracking import MlflowClient

    keep_report(simulated_study(12), listener, None, [])
    deliver(listener.outbox, store)
    client = MlflowClient(store)
    run = runs_of(store)[STUDY].info.run_id
    assert {a.path for a in client.list_artifacts(run)} == {"report.html", "pictures", "study.json"}
    assert len(client.list_artifacts(run, "pictures")) == 10
    copy = Path(client.download_artifacts(run, "study.json", str(tmp_path))).read_text()
    assert json.loads(copy)["study"] == STUDY
    assert "lovelace" not in copy


def test_a_folder_that_is_gone_holds_up_nothing(
    listener: MlflowListener,
    store: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    listener.attach(STUDY, tmp_path / "gone")
    deliver(listener.outbox, store)
    assert not listener.outbox.undelivered()
