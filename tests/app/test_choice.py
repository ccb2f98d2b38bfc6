"""Why the champion won and the others did not, wherever one looks at a study."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from aiq_search.app.doctor import Level
from aiq_search.app.doctor.search import check_search
from aiq_search.app.look import find_any
from aiq_search.app.report import search_findings
from aiq_search.app.result import SearchResult, failure_of
from aiq_search.cli.main import app
from aiq_search.errors import NothingFeasibleError
from aiq_search.report.page import write_report
from aiq_search.study import Phase, Study, TrialKey
from aiq_search.study.ended import end_of
from aiq_search.tracking.layout import study_ended_tags
from aiq_search.worker import Report
from tests.search.simulation import DATASET, Recorder, finish, new_study, report_of, simulated_space

SMALL, LARGE, MIDDLE = (
    {"model.hidden1": 5, "model.hidden2": 5},
    {"model.hidden1": 11, "model.hidden2": 4},
    {"model.hidden1": 10, "model.hidden2": 4},
)


def reported(assignment, epoch, report):
    """5-5 has the best aIQ and meets the constraint on a seed, then misses it on average."""
    key = TrialKey.parse(assignment.key)
    width = assignment.architecture["arguments"]["hidden1"]
    fresh = key.phase is Phase.CONFIRM
    turn = (key.number // 3 + key.number) % 3  # each value once among the seeds of a finalist
    jitter = 0.002 * turn
    aiq = {5: 0.870, 11: 0.853, 10: 0.852}.get(width, 0.5) + jitter
    accuracy = (0.872, 0.872, 0.908)[turn] if width == 5 and fresh else 0.93
    numbers = {
        "aiq": aiq,
        "accuracy": accuracy,
        "efficiency": 0.8,
        "loss": 1.0 / epoch,
        "train_loss": 1.0 / epoch,
        "efficiency/hidden1": 0.8,
        "efficiency/hidden2": 0.8,
    }
    return report_of(assignment, epoch, numbers)


@pytest.fixture
def listener():
    return Recorder()


@pytest.fixture
def study(tmp_path, monkeypatch, listener):
    """5-5 is refused on average, and 11-4 and 10-4 cannot be told apart."""
    made = new_study(
        tmp_path / ".aiq",
        "decided",
        enqueue=[SMALL, LARGE, MIDDLE],
        search={"trials": 10},
        confirm={"finalists": 3, "seeds": 3},
        objective={"constraints": ["accuracy >= 0.9"]},
    )
    finish(made, [listener], change=reported)
    made.mark_ended("finished")
    monkeypatch.setenv("AIQ_HOME", str(tmp_path / ".aiq"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return Study.open("decided", tmp_path / ".aiq")


REFUSED = "misses accuracy >= 0.9 (mean 0.884) on average; met on 1 of 3 seeds"


def test_the_smaller_of_two_that_tie_is_champion_and_the_best_mean_is_refused(study):
    assert study.champion().params == MIDDLE
    document = json.loads(CliRunner().invoke(app, ["best", "decided", "--format", "json"]).stdout)
    by_trial = {row["trial"]: row for row in document["finalists"]}
    assert [by_trial[n]["outcome"] for n in (2, 1, 0)] == ["won", "tied", "infeasible"]
    assert document["tied_with"] == [1]
    assert by_trial[0]["validation"]["objective"]["mean"] > by_trial[2]["validation"]["objective"]["mean"]
    assert by_trial[0]["reason"] == REFUSED
    assert (by_trial[0]["seeds"], by_trial[0]["feasible_seeds"]) == (3, 1)


def test_a_confirmation_is_listed_with_the_trial_that_it_repeats(study):
    rows = json.loads(CliRunner().invoke(app, ["trials", "decided", "--format", "json"]).stdout)
    confirmed = [row for row in rows if row["phase"] == "confirm"]
    assert {row["trial"] for row in confirmed} == {0, 1, 2}
    assert [row["number"] for row in confirmed] == list(range(len(confirmed)))
    assert all(row["name"] == f"confirm-{row['trial']:04d}-seed-{row['replicate']}" for row in confirmed)
    frame = SearchResult(study, study.champion(), "finished").trials
    assert set(frame[frame["phase"] == "confirm"]["trial"]) == {0, 1, 2}


def test_pareto_marks_the_champion_that_is_not_on_the_front(study):
    document = json.loads(CliRunner().invoke(app, ["pareto", "decided", "--format", "json"]).stdout)
    assert document["champion"] == 2
    *front, champion = document["trials"]
    assert all(row["on_front"] and not row["note"] for row in front)
    assert (champion["trial"], champion["on_front"]) == (2, False)
    printed = CliRunner().invoke(app, ["pareto", "decided"]).stdout
    assert "champion, not on the front" in " ".join(printed.split())


def test_best_has_a_table_of_finalists_with_reasons(study):
    printed = " ".join(CliRunner().invoke(app, ["best", "decided"]).stdout.split())
    assert "Champion: trial 2" in printed
    assert "infeasible: " + REFUSED in printed
    assert "cannot be told apart from the champion" in printed
    assert "1 of 3" in printed


def test_the_report_names_ties_and_the_refused(study, tmp_path):
    page = write_report(study, tmp_path / "r.html", findings=search_findings(study, None)).read_text()
    assert "It won as the smallest of 2 that cannot be told apart." in page
    assert "It is tied with 11-4 (#1)" in page
    assert "5-5 (#0) has the better mean aIQ, but misses accuracy &gt;= 0.9 (mean 0.884) on average" in page
    assert '<table id="verdicts">' in page
    assert "was refused: it misses" in page


def test_the_description_in_mlflow_says_why_the_others_lost(study, listener):
    tags = study_ended_tags(listener.events[-1], study.document)
    note = tags["mlflow.note.content"]
    assert tags["aiq.champion"] == "2"
    assert "**10-4 won** (trial 2)" in note
    assert "* 5-5 (trial 0) infeasible: " + REFUSED in note
    assert "* 11-4 (trial 1) tied: cannot be told apart" in note
    assert end_of(study).verdicts == listener.events[-1].verdicts


def test_the_doctor_names_the_finalist_that_a_constraint_refused(study):
    [finding] = [f for f in check_search(study, study.records()) if "refused" in f.what]
    assert finding.what.startswith(
        "trial-0000 has the best mean of the finalists, but was refused: it misses"
    )
    assert "constraint" in finding.remedy


def test_a_study_that_was_stopped_has_a_best_so_far_on_one_seed(tmp_path, monkeypatch):
    made = new_study(tmp_path, "stopped", confirm={"finalists": 0})
    finish(made, change=reported)
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    printed = CliRunner().invoke(app, ["best", "stopped"]).stdout
    assert "Best so far: trial" in printed
    assert "on one seed" in printed
    assert "champion" not in printed.lower()
    page = write_report(find_any("stopped", home=tmp_path), tmp_path / "r.html").read_text()
    assert "<h1>Best so far, on one seed:" in page


class TestChance:
    """97 of 100 examples are of one class, and no network finds more than that."""

    @pytest.fixture
    def unbalanced(self, tmp_path, monkeypatch):
        counts = {split: [351, *[1] * 9] for split in ("train", "validation", "test")}
        home = tmp_path / ".aiq"
        monkeypatch.setenv("AIQ_HOME", str(home))
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

        def make(name, **confirm):
            space = simulated_space(confirm={"finalists": 2, "seeds": 3, **confirm})
            study = Study.create(home, space, {**DATASET, "class_counts": counts}, name)
            finish(study, change=reported)
            study.mark_ended("finished")
            return Study.open(name, home)

        return make

    def test_a_champion_no_better_than_chance_is_exit_code_3_with_the_reason(self, unbalanced, monkeypatch):
        monkeypatch.setenv("COLUMNS", "120")
        study = unbalanced("chance")
        result = CliRunner().invoke(app, ["best", "chance"])
        assert isinstance(result.exception, NothingFeasibleError)
        assert result.exception.exit_code == 3
        assert "always naming the commonest class reaches 97.50%" in str(result.exception)
        row = next(line for line in result.stdout.splitlines() if "accuracy of the commonest class" in line)
        assert row.count("0.9750") == 3
        ended = SearchResult(study, study.champion(), "finished")
        assert isinstance(failure_of(ended), NothingFeasibleError)
        assert str(failure_of(ended)) in repr(ended).splitlines()

    def test_the_doctor_and_the_report_show_the_baseline(self, unbalanced, tmp_path):
        study = unbalanced("chance")
        [finding] = [f for f in check_search(study, study.records()) if "chance" in f.what]
        assert finding.level is Level.PROBLEM
        assert "learning rates" in finding.remedy
        page = write_report(study, tmp_path / "r.html").read_text()
        assert "always naming the commonest class reaches 0.9750" in page

    def test_a_space_may_accept_it(self, unbalanced):
        study = unbalanced("accepted", require_better_than_chance=False)
        assert CliRunner().invoke(app, ["best", "accepted"]).exit_code == 0
        assert failure_of(SearchResult(study, study.champion(), "finished")) is None


class TestTrials:
    """``aiq trials`` shows one trial in full, or some of them in an order."""

    @pytest.fixture
    def aiq(self, tmp_path, monkeypatch):
        home = tmp_path / ".aiq"
        monkeypatch.setenv("AIQ_HOME", str(home))
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

        def failing(assignment, epoch, report):
            number = TrialKey.parse(assignment.key).number
            if number % 3 or number > 8:
                return report
            return Report(
                done=True, reason=f"ValueError: bad {number > 0}", traceback="Traceback: line 7 of mine.py"
            )

        finish(new_study(home, "mixed", confirm={"finalists": 0}), change=failing)
        return lambda *arguments: CliRunner().invoke(app, ["trials", "mixed", *arguments])

    def test_one_trial_has_its_curve(self, aiq):
        printed = aiq("--trial", "1").stdout
        assert printed.startswith("trial-0001: COMPLETE, seed ")
        assert "hidden1=" in printed
        assert len(json.loads(aiq("--trial", "1", "--format", "json").stdout)["curve"]["aiq"]) == 4

    def test_a_failed_trial_has_its_reason_and_traceback(self, aiq):
        printed = aiq("--trial", "3").stdout
        assert "Reason: ValueError: bad True" in printed
        assert "line 7 of mine.py" in printed

    def test_a_trial_that_does_not_exist_is_an_error_with_the_range(self, aiq):
        assert "its trials are 0 to 11" in str(aiq("--trial", "99").exception)

    def test_trials_are_sorted_selected_and_cut(self, aiq):
        rows = json.loads(
            aiq("--sort", "aiq", "--top", "3", "--state", "complete", "--format", "json").stdout
        )
        values = [row["aiq"] for row in rows]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        failed = json.loads(aiq("--state", "FAIL", "--format", "json").stdout)
        assert [row["trial"] for row in failed] == [0, 3, 6]

    def test_an_unknown_column_is_an_error(self, aiq):
        assert "--sort aqi: no trial has that column" in str(aiq("--sort", "aqi").exception)


def test_when_all_trials_fail_the_commonest_reason_is_given(tmp_path):
    study = new_study(tmp_path, "broken", search={"trials": 5}, confirm={"finalists": 0})

    def fail(assignment, epoch, report):
        number = TrialKey.parse(assignment.key).number
        return Report(done=True, reason="ValueError: 9 outputs" if number else "MemoryError")

    finish(study, change=fail)
    with pytest.raises(NothingFeasibleError, match="5 of 5 failed, 4 of them with: ValueError: 9 outputs"):
        study.champion()
