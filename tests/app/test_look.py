"""Looking at a study from a machine that has only the tracking URI."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from aiq_search.app import look
from aiq_search.app.bundles import export_remote
from aiq_search.app.look import Watch, all_studies, find_any
from aiq_search.cli import main
from aiq_search.errors import InputError, StudyError
from aiq_search.study import Phase, PhaseStarted, Study, StudyEnded, TrialEnded, TrialState
from aiq_search.tracking import Outbox
from aiq_search.tracking.letters import FilesWritten, owner_of
from aiq_search.tracking.reading import RemoteStudy
from aiq_search.tracking.reconcile import events_of
from tests.search.simulation import finish, new_study
from tests.tracking.conftest import empty_store  # noqa: F401 - a fixture
from tests.tracking.delivering import deliver
from tests.tracking.simulated import RecordedTrials, SimulatedTrial

STUDY = "simulated-1"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = new_study(tmp_path / "elsewhere", STUDY)
    finish(made)
    made.mark_ended("finished")
    return made


@pytest.fixture
def store(study: Study, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: F811
    """A store with the study in it, named by the environment; this folder has nothing else."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    box = Outbox(study.directory)
    ended = study.document.created + 60
    box.put([*events_of(study), StudyEnded(study.id, "finished", ended, {}, finalists=study.finalists)])
    deliver(box, uri)
    box.close()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("AIQ_HOME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("COLUMNS", "200")
    return uri


@pytest.fixture
def aiq(store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command away from the study: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["aiq", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def test_a_space_s_name_means_its_newest_study(study: Study, store: str) -> None:
    assert find_any(study.space.name).id == STUDY


def test_the_champion_is_the_one_that_the_study_s_run_names(study: Study, store: str) -> None:
    from mlflow.tracking import MlflowClient

    chosen = study.champion().trial
    other = next(number for number in study.finalists if number != chosen)
    away = find_any(STUDY)
    assert isinstance(away, RemoteStudy)
    for named, champion in ((str(other), other), (str(chosen), chosen), ("none of them", chosen)):
        MlflowClient(store).set_tag(away.run_id, "aiq.champion", named)
        assert find_any(STUDY).champion().trial == champion


def test_an_unknown_study_names_both_places(store: str) -> None:
    with pytest.raises(
        StudyError, match=r"no study 'nobody' in .*aiq; .*MLflow at sqlite.* has no such study"
    ):
        find_any("nobody")


@pytest.mark.parametrize("name", ["it's", "a' OR tags.x LIKE '%", ""])
def test_a_name_is_never_part_of_a_query(name: str, store: str) -> None:
    with pytest.raises(StudyError):
        find_any(name)


def test_without_a_store_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert all_studies() == []
    with pytest.raises(StudyError):
        find_any("nobody")
    assert list(tmp_path.iterdir()) == []


def test_a_study_in_both_places_is_read_from_its_folder(study: Study, store: str) -> None:
    home = study.directory.parent.parent
    assert isinstance(find_any(STUDY, home=home), Study)
    assert [type(each) for each in all_studies(home=home)] == [Study]


def test_the_commands_answer_the_same_away_as_at_home(
    study: Study, aiq, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = (
        *(("studies", "--format", "json"), ("trials", STUDY, "--format", "csv")),
        *(("best", STUDY, "--format", "json"), ("pareto", STUDY, "--format", "json")),
    )
    away = [aiq(*command)[:2] for command in commands]
    monkeypatch.setenv("AIQ_HOME", str(study.directory.parent.parent))
    home = [aiq(*command)[:2] for command in commands]
    assert json.loads(away[0][1]) == json.loads(home[0][1])
    assert _rows(away[1][1]) == _rows(home[1][1])
    assert [json.loads(out) for _, out in away[2:]] == [json.loads(out) for _, out in home[2:]]
    assert {code for code, _ in [*away, *home]} == {0}


@pytest.mark.parametrize("method", ["log_batch", "set_terminated"])
def test_a_trial_whose_delivery_was_killed_between_two_requests_is_a_running_one(
    study: Study,
    aiq,
    empty_store: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    from mlflow.tracking import MlflowClient

    shutil.copy(empty_store, tmp_path / "half.db")
    uri = f"sqlite:///{tmp_path / 'half.db'}"
    best = study.champion().explored
    events = [e for e in events_of(study) if getattr(e, "key", best.key).phase is Phase.EXPLORE]
    box = Outbox(study.directory / "half")
    box.put(e for e in events if owner_of(e) != str(best.key))
    deliver(box, uri)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, method, lambda *_, **__: sys.exit())
        box.put(events)
        with pytest.raises(SystemExit):
            deliver(box, uri)
    box.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    commands = [("studies",), ("trials", STUDY), ("pareto", STUDY), ("best", STUDY)]
    answers = [aiq(*command, "--format", "json") for command in commands]
    assert {code for code, _, _ in answers} == {0}, answers
    studies, rows, front, champion = (json.loads(out) for _, out, _ in answers)
    assert [row["state"] for row in rows if row["name"] == best.name] == ["RUNNING"]
    assert studies[0]["running"] == 1
    assert champion["trial"] != best.key.number
    assert best.name not in str(front)


def _rows(printed: str) -> list[dict[str, str]]:
    # MLflow keeps milliseconds and floats, and says why a trial was pruned where the study does not.
    return [
        {k: v.removesuffix(".0") for k, v in row.items() if k not in ("seconds", "reason")}
        for row in csv.DictReader(io.StringIO(printed))
    ]


@pytest.mark.slow
def test_the_report_is_drawn_from_mlflow(aiq) -> None:
    code, out, _ = aiq("report", STUDY, "--output", "told.html")
    assert (code, out.strip()) == (0, "told.html")
    assert "won" in Path("told.html").read_text(encoding="utf-8")


def test_the_report_that_lies_with_the_run_is_taken(study: Study, aiq, store: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "report.html").write_text("as it was told")
    box = Outbox(study.directory)
    box.put([FilesWritten(STUDY, str(kept), 1.0)])
    deliver(box, store)
    box.close()
    aiq("report", STUDY, "--output", "told.html")
    assert Path("told.html").read_text() == "as it was told"


def test_a_study_without_a_bundle_cannot_be_exported(aiq) -> None:
    code, _, err = aiq("export", STUDY, "--output", "champion")
    assert code == 2
    assert "without a bundle" in err
    assert not Path("champion").exists()


def test_what_mlflow_has_is_exported_as_it_is(aiq) -> None:
    code, _, err = aiq("export", STUDY, "--output", "champion", "--trial", "0")
    assert code == 2
    assert "leave out --trial and --format, or use them where the study's folder is" in err


def test_a_bundle_from_elsewhere_is_checked(study: Study, store: str, tmp_path: Path) -> None:
    bad = tmp_path / "kept" / "bundle"
    bad.mkdir(parents=True)
    (bad / "model.safetensors").write_bytes(b"x")
    box = Outbox(study.directory)
    box.put([FilesWritten(STUDY, str(bad.parent), 1.0)])
    deliver(box, store)
    box.close()
    away = find_any(STUDY)
    assert isinstance(away, RemoteStudy)
    from aiq_search.export import BundleError

    with pytest.raises((BundleError, InputError)):
        export_remote(away, Path("champion"))
    assert not Path("champion").exists()


@pytest.mark.parametrize("away", [False, True])
def test_watching_tells_everything_once_and_ends_with_the_study(study: Study, store: str, away: bool) -> None:
    watched = Watch(STUDY, home=None if away else study.home)
    events = list(watched.events(every=0.01))
    ended = [event for event in events if isinstance(event, TrialEnded)]
    assert [str(event.key) for event in ended] == list(dict.fromkeys(str(event.key) for event in ended))
    assert len(ended) == sum(record.state is not TrialState.RUNNING for record in study.records())
    assert isinstance(events[-1], StudyEnded)
    assert events[-1].reason == "finished"


def test_watching_follows_a_study_that_runs(tmp_path: Path) -> None:
    running = new_study(tmp_path / "home", STUDY)
    with running.held():
        events = Watch(STUDY, home=tmp_path / "home").events(every=0.01)
        next(events)  # its start; it runs, and nothing has happened yet
        finish(running)
        seen = [next(e for e in events if isinstance(e, TrialEnded)) for _ in running.records()]
    assert {event.key for event in seen} == {record.key for record in running.records()}
    assert Phase.CONFIRM in {event.key.phase for event in seen}


def test_watch_prints_one_document_when_the_study_is_over(aiq) -> None:
    code, out, err = aiq("watch", STUDY, "--format", "json")
    assert code == 0
    assert json.loads(out)["status"] == "finished"
    assert "finished study" in err


def test_who_watches_a_race_sees_its_length_until_it_is_over_and_then_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = RecordedTrials([]).space.document() | {"confirm": {"runs": 10, "seeds": 2}}
    explored = [SimulatedTrial(0).record()]
    race = [SimulatedTrial(n, phase=Phase.CONFIRM, origin=0, replicate=n).record() for n in range(7)]
    further = [SimulatedTrial(n, phase=Phase.CONFIRM, origin=0, replicate=n + 3).record() for n in (7, 8)]

    def studies() -> list[RecordedTrials]:
        seen = [explored, [*explored, *race[:3]], [*explored, *race, *further], [*explored, *race, *further]]
        return [RecordedTrials(records, space=space) for records in seen]

    first, *others = studies()
    for study, later in zip([first, *others], others, strict=False):
        study.is_running = True
        monkeypatch.setattr(study, "refreshed", lambda later=later: later)
    monkeypatch.setattr(look, "find_any", lambda *_: first)
    events = list(Watch("x").events(every=0))
    totals = [event.total for event in events if isinstance(event, PhaseStarted)]
    assert totals == [60, 60, 12, 9]
