"""The doctor's findings, each with its remedy."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log2

import pytest
from typer.testing import CliRunner

from aiq_search.app.doctor import Level, environment, fix_study
from aiq_search.app.doctor.environment import check_environment, check_home
from aiq_search.app.doctor.search import check_search
from aiq_search.app.doctor.study import check_files, check_runs, check_states, mismatches
from aiq_search.cli.main import app
from aiq_search.errors import StudyError
from aiq_search.search.driver import StudyDriver
from aiq_search.study import Phase, Study, TrialKey, TrialRecord, TrialState
from aiq_search.tracking.removal import StudyRun
from aiq_search.worker import Report
from tests.search.reports import metrics_of, report_of
from tests.search.simulation import finish, new_study, run


def again(study):
    return Study.open(study.id, study.directory.parent.parent)


def told(findings, word):
    """The one finding that has a word in it."""
    [found] = [f for f in findings if word in f.what]
    return found


def searched(home, change=None, **edits):
    """What the doctor says of a search whose trials reported this."""
    study = new_study(home, confirm={"finalists": 0}, **edits)
    driver = StudyDriver(study)
    driver.begin()
    run(driver, change=change)
    driver.end()
    return list(check_search(again(study), again(study).records()))


def reporting(**numbers):
    """Let each report have these numbers; a callable is given assignment and epoch."""

    def change(assignment, epoch, report):
        metrics = dict(metrics_of(assignment, epoch))
        for name, number in numbers.items():
            metrics[name] = number(assignment, epoch) if callable(number) else number
        return report_of(assignment, epoch, metrics)

    return change


class TestSearch:
    def test_a_search_that_suits_its_space_has_no_finding(self, tmp_path):
        [found] = searched(tmp_path, reporting(loss=lambda _, epoch: abs(epoch - 3)))
        assert found.level is Level.OK

    def test_networks_that_still_learned_at_the_end_are_told(self, tmp_path):
        [found] = searched(tmp_path)
        assert (found.level, "last epoch" in found.what) == (Level.NOTE, True)
        assert "training.epochs: 8" in found.remedy

    def test_an_optimum_at_the_edge_is_told_with_the_field_to_change(self, tmp_path):
        def aiq(assignment, epoch):
            return min(1.0, assignment.architecture["arguments"]["hidden1"] / 64)

        points = [{"model.hidden1": 64, "model.hidden2": width} for width in (2, 3)]
        findings = searched(tmp_path, reporting(aiq=aiq), enqueue=points)
        found = told(findings, "at the high end of its range")
        assert "model.hidden1" in found.what
        assert "raise parameters.model.hidden1.high = 64" in found.remedy

    def test_a_parameter_that_the_best_trial_does_not_have_is_judged_by_those_that_have_it(self, tmp_path):
        parameters = {f"model.hidden{n}": {"type": "int", "low": 2, "high": 64} for n in (1, 2)}
        study = new_study(tmp_path, parameters=parameters)
        shallow = {"model.hidden1": 8}
        trials = [shallow, {**shallow, "model.hidden2": 64}, {**shallow, "model.hidden2": 64}, *[shallow] * 5]
        records = [
            TrialRecord(
                TrialKey(study.id, Phase.EXPLORE, number), TrialState.COMPLETE, params, 0, str(number),
                value=0.9 - 0.01 * number, epochs=4, feasible=True,
                metrics={"aiq": 0.9 - 0.01 * number, "efficiency/hidden1": 0.5, "efficiency/hidden2": 0.5},
            )
            for number, params in enumerate(trials)
        ]  # fmt: skip
        found = told(list(check_search(study, records)), "at the high end")
        assert "model.hidden2 = 64" in found.what

    def test_all_trials_pruned_at_once_is_told(self, tmp_path):
        findings = searched(
            tmp_path,
            reporting(aiq=lambda a, epoch: 0.5 - 0.001 * TrialKey.parse(a.key).number),
            search={"trials": 30, "pruner": {"name": "asha", "reduction_factor": 2}},
        )
        found = told(findings, "pruned at the first chance, after 1 epoch")
        assert "min_resource" in found.remedy

    def test_too_many_collapses_are_told(self, tmp_path):
        def efficiency(assignment, epoch):
            return 0.0 if TrialKey.parse(assignment.key).number % 3 == 0 else 0.5

        found = told(searched(tmp_path, reporting(efficiency=efficiency)), "networks collapsed")
        assert found.what.startswith("4 of 12")
        assert "learning_rate" in found.remedy

    def test_an_efficiency_on_its_ceiling_is_told(self, tmp_path):
        def on_the_ceiling(assignment, epoch, report):
            ceiling = log2(360) / assignment.architecture["arguments"]["hidden1"]
            metrics = metrics_of(assignment, epoch) | {"efficiency/hidden1": ceiling}
            report = report_of(assignment, epoch, metrics)
            return replace(report, size={**report.size, "ceiling/hidden1": ceiling})

        widths = {"type": "int", "low": 32, "high": 64}
        findings = searched(
            tmp_path,
            on_the_ceiling,
            parameters={"model.hidden1": widths, "model.hidden2": {"type": "int", "low": 2, "high": 4}},
        )
        found = told(findings, "which cannot exceed")
        assert "raise dataset.validation" in found.remedy

    def test_a_constraint_that_was_never_met_is_told_with_the_nearest(self, tmp_path):
        findings = searched(
            tmp_path,
            reporting(accuracy=lambda a, epoch: 0.9 if a.key.endswith("/7") else 0.8),
            objective={"constraints": ["accuracy >= 0.99"]},
        )
        found = told(findings, "No trial meets accuracy >= 0.99")
        assert "trial-0007 comes nearest with 0.9" in found.what
        assert found.level is Level.PROBLEM

    def test_divergence_is_told(self, tmp_path):
        def change(assignment, epoch, report):
            broken = TrialKey.parse(assignment.key).number % 2 and assignment.key.count("explore")
            return Report(done=True, reason="diverged: the training loss is nan") if broken else report

        found = told(searched(tmp_path, change, search={"max_failed": 1.0}), "trials diverged")
        assert found.what.startswith("6 of 12")

    def test_few_trials_are_not_judged(self, tmp_path):
        [found] = searched(tmp_path, search={"trials": 3})
        assert found.level is Level.NOTE


class TestStudy:
    def test_interrupted_trials_are_told_with_the_command(self, tmp_path):
        study = new_study(tmp_path)
        driver = StudyDriver(study)
        driver.begin()
        run(driver, concurrency=2, stop_after=3)
        found = told(check_states(study, study.records()), "were interrupted")
        assert found.what.startswith("2 trials")
        assert found.remedy.endswith("aiq resume study")

    def test_failures_are_told_with_the_most_frequent_reason(self, tmp_path):
        def change(assignment, epoch, report):
            return Report(done=True, reason="ValueError: a bug") if assignment.key.endswith("/1") else report

        study = new_study(tmp_path)
        driver = StudyDriver(study)
        driver.begin()
        run(driver, change=change)
        driver.end()
        records = [r for r in again(study).records() if r.key.phase is Phase.EXPLORE]
        found = told(check_states(again(study), records), "failed")
        assert "ValueError: a bug" in found.what
        assert "aiq retry study" in found.remedy

    def test_a_torn_journal_and_leftovers_are_found(self, tmp_path):
        study = new_study(tmp_path)
        with study.journal.open("ab") as file:
            file.write(b'{"op_code": 4, "wor')
        (study.checkpoints / "explore-0009.unfinished.safetensors").write_bytes(b"old")
        (study.checkpoints / "explore-0001.safetensors.77.part").write_bytes(b"half")
        findings = list(check_files(study, []))
        assert told(findings, "unfinished line").fixable
        assert told(findings, "2 files belong to no trial").fixable

    def test_a_running_study_is_only_looked_at(self, tmp_path):
        study = new_study(tmp_path)
        with study.held():
            assert told(check_states(study, []), "A search is running this study").level is Level.NOTE
            assert list(check_files(study, [])) == []
            with pytest.raises(StudyError, match="another driver"):
                fix_study(study)

    def test_each_kind_of_mismatch_with_mlflow_is_told_apart(self, tmp_path):
        study = new_study(tmp_path, search={"trials": 3}, confirm={"finalists": 0})
        finish(study)
        records = again(study).records()
        keys = [str(record.key) for record in records]
        runs = [
            StudyRun("a", study.id, "RUNNING"),
            StudyRun("b", keys[0], "FINISHED"),
            StudyRun("c", keys[0], "FINISHED"),
            StudyRun("d", keys[1], "RUNNING"),
        ]
        assert mismatches(study, records, runs, alive=False) == {
            "Missing from MLflow": [keys[2]],
            "In MLflow more than once": [keys[0]],
            "In another state in MLflow": [keys[1]],
            "RUNNING in MLflow, but in no search": [study.id],
        }
        study.mark_ended("finished")
        found = mismatches(study, records, runs[1:], alive=False)
        assert found["Missing from MLflow"] == [study.id, keys[2]]
        found = mismatches(study, records, runs, alive=False)
        assert found["In another state in MLflow"] == [keys[1], study.id]

    @pytest.mark.slow
    def test_fix_tells_mlflow_what_it_lacks_and_leaves_no_run_running(self, tmp_path):
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        study = new_study(tmp_path, search={"trials": 3}, confirm={"finalists": 0})
        driver = StudyDriver(study)
        driver.begin()
        run(driver, stop_after=6)  # one trial ended, one is in the middle, and the driver is gone
        (study.checkpoints / "explore-0009.unfinished.safetensors").write_bytes(b"old")
        assert told(check_runs(again(study), study.records(), uri), "no outbox").fixable
        fix_study(again(study), uri)
        findings = list(check_runs(again(study), again(study).records(), uri))
        assert [f.level for f in findings] == [Level.OK]
        assert list(study.checkpoints.glob("*.unfinished.*")) == []
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        client.set_tag(_run_of(client, "study/explore/0"), "aiq.trial_key", "lost")
        assert told(check_runs(again(study), study.records(), uri), "Missing from MLflow").fixable
        fix_study(again(study), uri)
        [found] = check_runs(again(study), again(study).records(), uri)
        assert "belong to no trial of the study: lost" in found.what


def _run_of(client, key):
    experiment = client.get_experiment_by_name("simulated")
    [found] = client.search_runs([experiment.experiment_id], f"tags.`aiq.trial_key` = '{key}'")
    return found.info.run_id


class TestEnvironment:
    def test_each_finding_that_is_not_ok_has_a_remedy(self, tmp_path):
        findings = [*check_environment(tmp_path, "http://127.0.0.1:9"), *check_home(tmp_path)]
        assert told(findings, "does not answer").level is Level.WARNING
        assert all(f.remedy for f in findings if f.level not in (Level.OK, Level.NOTE))

    @pytest.mark.parametrize(
        ("torch", "torchvision", "needs", "told_of"),
        [
            (
                "2.13.0",
                "0.29.2",
                "torch (>=2.14.0)",
                "torchvision 0.29.2 needs torch >=2.14.0, but torch 2.13.0",
            ),
            ("2.15.0+cpu", "0.30.0+cu130", "torch==2.15.0", "builds for different devices"),
            ("2.15.0+cu130", "0.30.0", "torch==2.15.0", "are compatible"),
            ("2.16.0.dev20261101", "0.31.0.dev1", "torch==2.16.0.dev20261101", "are compatible"),
        ],
    )
    def test_torchvision_for_another_torch_is_told(
        self, tmp_path, monkeypatch, torch, torchvision, needs, told_of
    ):
        monkeypatch.setattr(environment, "version", {"torch": torch, "torchvision": torchvision}.__getitem__)
        monkeypatch.setattr(environment, "requires", lambda _: ["numpy", needs])
        found = told(check_environment(tmp_path), told_of)
        assert found.level is (Level.OK if "compatible" in told_of else Level.PROBLEM)

    def test_little_memory_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setattr(environment, "available_memory", lambda: 300_000_000)
        assert told(check_environment(tmp_path), "of memory").level is Level.WARNING

    def test_a_damaged_study_is_found_in_aiq_home(self, tmp_path):
        study = new_study(tmp_path)
        (study.directory / "study.json").write_text("{")
        assert told(check_home(tmp_path), "study.json: damaged").level is Level.PROBLEM

    def test_unfinished_studies_are_listed(self, tmp_path):
        new_study(tmp_path)
        assert told(check_home(tmp_path), "is not finished").remedy.startswith(
            "Continue it: aiq resume study"
        )

    def test_json_is_one_document_of_findings(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AIQ_HOME", str(tmp_path))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
        result = CliRunner().invoke(app, ["doctor", "--format", "json"])
        rows = json.loads(result.stdout)
        assert {"area", "level", "what", "remedy", "fixable"} == set(rows[0])
        assert result.exit_code == int(any(row["level"] == "problem" for row in rows))

    def test_fix_needs_a_study(self):
        result = CliRunner().invoke(app, ["doctor", "--fix"])
        assert "name one" in str(result.exception)
