"""The best network so far lies with the study's run while the search goes on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from aiq_search.tracking import MlflowListener, Outbox
from aiq_search.tracking.best import KEPT, BestBundle
from aiq_search.tracking.letters import FilesWritten
from tests.tracking.conftest import runs_of, wait_until
from tests.tracking.delivering import deliver
from tests.tracking.simulated import STUDY, SimulatedTrial, study_started

MODULE = "tests.tracking.bundler"


@pytest.fixture(autouse=True)
def _modules_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def written(best: BestBundle, trial: int) -> None:
    """Have a trial's bundle written, and wait for it."""
    assert best.look(trial, hurry=True)
    wait_until(lambda: not best.look(trial, hurry=True), 60)


def test_a_new_best_is_bundled_once_and_not_before_its_turn(study_directory: Path, outbox: Outbox) -> None:
    with BestBundle(outbox, study_directory, MODULE) as best:
        assert not best.look(None, hurry=True)
        assert not best.look(3, hurry=False)
        written(best, 3)
    [letter] = outbox.history(FilesWritten)
    assert isinstance(letter.event, FilesWritten)
    assert (Path(letter.event.folder) / "bundle" / "model.safetensors").is_file()
    with BestBundle(outbox, study_directory, MODULE) as again:
        assert not again.look(3, hurry=True)


def test_a_bundle_that_cannot_be_written_is_told_and_tried_with_the_next_best(
    study_directory: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    (study_directory / "broken").touch()
    with BestBundle(outbox, study_directory, MODULE) as best, caplog.at_level(logging.WARNING):
        written(best, 3)
        assert "trial 3): the weights are gone" in caplog.text
        assert outbox.fact(KEPT) is None
        (study_directory / "broken").unlink()
        written(best, 4)
    assert outbox.fact(KEPT) == "4"


def test_a_new_bundle_leaves_nothing_of_the_one_before(outbox: Outbox, store: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    outbox.put([study_started()])
    for number, name in enumerate(("old.pt2", "new.safetensors")):
        folder = tmp_path / name
        (folder / "bundle").mkdir(parents=True)
        (folder / "bundle" / name).touch()
        outbox.put([FilesWritten(STUDY, str(folder), float(number))])
        deliver(outbox, store)
    run = runs_of(store)[STUDY].info.run_id
    assert [a.path for a in MlflowClient(store).list_artifacts(run, "bundle")] == ["bundle/new.safetensors"]


@pytest.mark.slow
def test_a_search_that_dies_leaves_its_best_network_in_mlflow(study_directory: Path, store: str) -> None:
    from mlflow.tracking import MlflowClient

    study = study_directory.with_name(STUDY)
    listener = MlflowListener(study, store, bundler=MODULE)
    good = SimulatedTrial(0, widths=(16, 16, 16))
    for event in [study_started(), *good.events()]:
        listener.on_event(event)
    process = listener._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()  # as the driver's death does
    process.wait(120)
    run = runs_of(store)[STUDY]
    assert run.info.status == "KILLED"
    files = MlflowClient(store).list_artifacts(run.info.run_id, "bundle")
    assert [file.path for file in files] == ["bundle/model.safetensors"]
