"""Handing studies in, and in again: a client that notes stands in for the cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiq_search.app import jobs
from aiq_search.app.options import RunOptions
from aiq_search.cli.main import app
from aiq_search.cluster.jobs import Job, _drain_seconds
from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.space import load_space
from aiq_search.study import Study
from aiq_search.study.provenance import Provenance
from tests.search.simulation import DATASET

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
ENDED = Job("a", "digits", "stopped", "", None, 1.0, 2.0, drain_seconds=600)


class Client:
    """Notes what is asked of it."""

    address = "http://team.example:8265"

    def __init__(self, job=None):
        self.job = job
        self.asked = []

    def get(self, study):
        return self.job

    find = get

    def forget(self, study):
        self.asked.append("forget")

    def submit(self, study, space, folder, drain_seconds):
        self.asked.append("submit")
        self.drain_seconds = drain_seconds
        self.document = json.loads((folder / "job.json").read_text())


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("AIQ_JOB", "AIQ_STUDY_STORAGE", "AIQ_STORAGE", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("AIQ_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def study(home):
    """A study that a job began."""
    return Study.create(
        home,
        load_space(SPACE),
        DATASET,
        "a",
        provenance=Provenance(command=(), versions={}, platform="", job="5b"),
    )


def test_every_submission_has_an_id_of_its_own(home):
    ours, theirs = Client(), Client()
    for client in (ours, theirs):
        jobs.submit_study(SPACE, client, RunOptions(study_id="a"))
    assert len(ours.document["submission"]) == 32
    assert ours.document["submission"] != theirs.document["submission"]


def test_a_storage_goes_to_the_search_on_the_cluster(home, tmp_path):
    client = Client()
    jobs.submit_study(SPACE, client, RunOptions(storage="s3://bucket/studies"))
    assert client.document["search"] == ["--storage", "s3://bucket/studies"]
    for wrong in ("somewhere", "s3://key:word@bucket"):
        with pytest.raises(InputError, match="--storage"):
            jobs.submit_study(SPACE, client, RunOptions(storage=wrong))


def test_a_study_that_is_handed_in_again_may_take_as_long_to_end_as_before(study):
    client = Client(ENDED)
    jobs.resubmit_study(study, client, RunOptions(trials=9))
    assert client.asked == ["forget", "submit"]
    assert client.drain_seconds == 600
    assert client.document["search"] is None
    assert client.document["resume"] == ["--trials", "9"]


@pytest.mark.parametrize("job", [None, replace(ENDED, drain_seconds=None)])
def test_or_the_usual_time_where_the_cluster_does_not_know(study, job):
    client = Client(job)
    jobs.resubmit_study(study, client)
    assert client.drain_seconds == jobs.DRAIN_SECONDS


def test_how_long_is_read_from_the_jobs_environment():
    assert _drain_seconds({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"}}) == 600
    assert _drain_seconds({}) is None
    assert _drain_seconds({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "long"}}) is None


def test_what_cannot_be_packed_costs_no_job(study, monkeypatch):
    def too_large(*_):
        raise InputError("too large")

    client = Client(ENDED)
    monkeypatch.setattr(jobs, "write_package", too_large)
    with pytest.raises(InputError, match="too large"):
        jobs.resubmit_study(study, client)
    assert client.asked == []


def test_a_jobs_status_is_told_without_mlflow_too(home, monkeypatch):
    def away(*_):
        raise AiqError("MLflow does not answer.")

    monkeypatch.setattr(jobs, "find_any", away)
    row, trouble = jobs.job_status(Client(ENDED), "a")
    assert (row["study"], row["status"]) == ("a", "stopped")
    assert trouble == "its trials cannot be counted: MLflow does not answer."


def test_a_study_that_only_mlflows_server_has_is_the_clusters(home, study, monkeypatch):
    asked = []

    def find(name, home=None):
        asked.append(name)
        if name != "b":
            raise StudyError("no such study")
        return study

    monkeypatch.setattr(jobs, "find_any", find)
    assert jobs.is_submitted("b") is None  # nothing names a server: it is not asked
    assert asked == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team.example:5000")
    assert jobs.is_submitted("b") is study
    assert jobs.is_submitted("b", take_over=True) is None
    with pytest.raises(StudyError):
        jobs.is_submitted("c")
    monkeypatch.setenv("AIQ_STUDY_STORAGE", "postgresql://team.example/studies")
    assert jobs.is_submitted("c") is None  # the database may have it


@pytest.mark.parametrize("option", ["--file", "--storage", "--study-storage", "--tracking-uri", "--address"])
def test_resume_refuses_what_would_not_reach_the_cluster(study, option):
    done = CliRunner().invoke(app, ["resume", "a", option, "/x"])
    assert isinstance(done.exception, InputError)
    assert f"expected no {option}; leave that out" in str(done.exception)


def test_resume_takes_no_offence_at_the_environment(study, monkeypatch):
    resubmitted = []
    monkeypatch.setattr(jobs, "resubmit_study", lambda *arguments: resubmitted.append(arguments))
    monkeypatch.setenv("AIQ_STORAGE", "/shared")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    done = CliRunner().invoke(app, ["resume", "a", "--trials", "9"])
    assert done.exception is None
    [(resumed, _, options)] = resubmitted
    assert (resumed.id, options.trials, options.data_dir) == ("a", 9, None)


@pytest.mark.parametrize(
    ("job", "code", "ending"),
    [
        (replace(ENDED, status="succeeded"), 0, ""),
        (ENDED, 143, "Stopped. Continue with: aiq resume a"),
        (replace(ENDED, status="failed", exit_code=3), 3, "study a failed on the cluster"),
    ],
)
def test_resume_follows_what_continues_on_a_cluster(study, monkeypatch, job, code, ending):
    class Followed(Client):
        def follow(self, name, write):
            write(f"the log of {name}\n")
            return job

    client = Followed(ENDED)
    monkeypatch.setattr(jobs, "connect", lambda: client)
    done = CliRunner().invoke(app, ["resume", "a", "--follow"])
    assert client.asked == ["forget", "submit"]
    assert done.stdout == "a\n"
    assert "the log of a" in done.stderr
    assert getattr(done.exception, "exit_code", done.exit_code) == code
    assert ending in done.stderr + str(done.exception)
