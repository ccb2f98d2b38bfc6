"""Studies as jobs of a cluster: from this machine, through Ray's Jobs API and MLflow alone."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiq_search.app.local_cluster import leave_cluster
from aiq_search.app.look import find_any
from aiq_search.app.options import RunOptions
from aiq_search.cluster.jobs import Job, JobsClient
from aiq_search.cluster.package import SPACE_FILE, user_modules, write_package
from aiq_search.errors import AiqError, InputError, NothingFeasibleError, StudyError
from aiq_search.places import shared_place
from aiq_search.space import SearchSpace
from aiq_search.space.shipped import find_space
from aiq_search.study import Study, StudyView
from aiq_search.study.provenance import versions
from aiq_search.study.study import check_study_id, new_study_id
from aiq_search.tracking import default_tracking_uri
from aiq_search.tracking.uri import is_server
from aiq_search.user_code import is_reference

__all__ = [
    "DRAIN_SECONDS",
    "connect",
    "describe_job",
    "failure_of_job",
    "is_submitted",
    "job_status",
    "resubmit_study",
    "resume_submitted",
    "submit_study",
]

_log = logging.getLogger("aiq_search.jobs")

# A driver that is asked to stop needs about half a minute: epochs end, then MLflow gets the last events.
DRAIN_SECONDS = 120


def submit_study(
    source: Path,
    client: JobsClient,
    options: RunOptions | None = None,
    *,
    drain_seconds: int = DRAIN_SECONDS,
) -> str:
    """Submit a search and return its study's id.

    Args:
        source: A search-space file, or the name of a shipped space.
        client: Of the cluster.
        options: What it is run with; folders, places and earlier studies are those of the cluster.
        drain_seconds: How long the study may take to end when it is stopped.

    Raises:
        InputError: The file or the storage is wrong, what it needs is too large, or the id is taken.
        AiqError: The cluster does not answer.
    """
    from aiq_search.app.prepare import prepare_space, with_imported

    options = options or RunOptions()
    space = prepare_space(source, options.edits, options.code)
    options, imported = with_imported(space, options)  # here: the cluster may not reach the storage
    for note in imported:
        _log.info(note)
    study = check_study_id(options.study_id) if options.study_id is not None else new_study_id(space)
    if options.storage is not None:
        options = replace(options, storage=str(shared_place(options.storage)))
    document = {
        "study": study,
        "submission": secrets.token_hex(16),  # by which the job knows whether this study is its own
        "search": options.arguments(),
        "resume": [],
        "versions": versions(),
    }
    _submit(client, study, space, document, {SPACE_FILE: find_space(source)}, drain_seconds)
    return study


def resubmit_study(study: StudyView, client: JobsClient, options: RunOptions | None = None) -> None:
    """Submit a study again whose job or cluster has ended; it continues where it stopped.

    It may take as long to end as before, if the cluster still knows how long that was.

    Args:
        study: The study.
        client: Of the cluster that has its folder.
        options: ``trials``, a new total number of configurations, ``data_dir``, a folder on the cluster, and
            ``allow_code``; no others count.

    Raises:
        InputError: It is still running.
        AiqError: The cluster does not answer.
    """
    job = client.get(study.id)
    if job is not None and not job.over:
        raise InputError(f"study {study.id} is {job.status} already; follow it: aiq logs -f {study.id}")
    drain_seconds = (job and job.drain_seconds) or DRAIN_SECONDS
    options = options or RunOptions()
    arguments = RunOptions(
        trials=options.trials, data_dir=options.data_dir, allow_code=options.allow_code
    ).arguments()
    document = {"study": study.id, "search": None, "resume": arguments, "versions": versions()}
    _submit(client, study.id, study.space, document, {}, drain_seconds, again=job is not None)


def resume_submitted(name: str, options: RunOptions, unfit: Sequence[str] = ()) -> str | None:
    """Continue a study on the cluster that it was submitted to, if it was.

    Args:
        name: A study's id, or a space's name.
        options: See ``resubmit_study``.
        unfit: Options of the command line that only a study of this machine takes.

    Returns:
        The study's id; None if it is this machine's.

    Raises:
        InputError: An option was given that only a study of this machine takes.
        AiqError: The cluster does not answer.
    """
    study = is_submitted(name, options.home, take_over="--study-storage" in unfit)
    if study is None:
        return None
    if unfit:
        raise InputError(
            f"study {study.id} was submitted to a cluster and continues there, with its file and its stores: "
            f"expected no {', '.join(unfit)}; leave that out. RAY_API_SERVER_ADDRESS names the cluster."
        )
    resubmit_study(study, connect(), options)
    return study.id


def connect(address: str | None = None) -> JobsClient:
    """The jobs of a cluster.

    Args:
        address: Of Ray's dashboard; by default that of the cluster in AIQ_HOME, or of the environment.
    """
    leave_cluster(address)
    return JobsClient(address)


def is_submitted(name: str, home: Path | None = None, take_over: bool = False) -> StudyView | None:
    """The study, if a cluster has to continue it; None if this machine has to.

    Args:
        name: A study's id, or a space's name.
        home: AIQ_HOME.
        take_over: Whether to take a study that is not here over from its database, whoever started it.

    Raises:
        StudyError: Neither this machine nor MLflow's server has such a study.
        AiqError: MLflow's server does not answer.
    """
    if os.environ.get("AIQ_JOB"):
        return None  # this is the cluster
    try:
        study: StudyView = Study.open(name, home)
    except StudyError:
        elsewhere = os.environ.get("RAY_API_SERVER_ADDRESS") or is_server(default_tracking_uri())
        if take_over or not elsewhere:
            return None
        try:
            study = find_any(name, home=home)
        except AiqError:
            if os.environ.get("AIQ_STUDY_STORAGE"):
                return None  # perhaps the database has it
            raise
    return study if study.document.provenance.job else None


def describe_job(job: Job) -> dict[str, Any]:
    """A job as a row."""
    return {
        "study": job.study,
        "space": job.space,
        "status": job.status,
        "submitted": job.submitted,
        "ended": job.ended,
        "exit_code": job.exit_code,
        "message": job.message,
    }


def job_status(client: JobsClient, name: str) -> tuple[dict[str, Any], str | None]:
    """A job's row, with the counts of its study's trials once MLflow has them.

    Returns:
        The row, and a sentence if the counts are unavailable.

    Raises:
        InputError: There is no such job.
    """
    from aiq_search.app.look import describe_study

    job = client.find(name)
    row = describe_job(job)
    try:
        counts = describe_study(find_any(job.study))
    except StudyError:
        return row, None  # it has only just started
    except AiqError as error:
        return row, f"its trials cannot be counted: {error}"
    return {**counts, **row}, None


def failure_of_job(job: Job) -> AiqError | None:
    """The error that a failed job amounts to, with its driver's exit code; None for any other job."""
    if job.status != "failed":
        return None
    kinds: Mapping[int, type[AiqError]] = {2: InputError, 3: NothingFeasibleError}
    kind = kinds.get(job.exit_code or 1, AiqError)
    why = job.message if job.exit_code is None else f"exit code {job.exit_code}"
    return kind(f"study {job.study} failed on the cluster ({why}); see its log: aiq logs {job.study}")


def _submit(
    client: JobsClient,
    study: str,
    space: SearchSpace,
    document: Mapping[str, Any],
    files: Mapping[str, Path],
    drain_seconds: int,
    again: bool = False,
) -> None:
    with tempfile.TemporaryDirectory(prefix="aiq-") as folder:
        write_package(Path(folder), document, {**files, **_own_files(space, Path.cwd())})
        if again:  # only now: a failure to pack must not cost the record of the earlier job
            client.forget(study)
        client.submit(study, space.name, Path(folder), drain_seconds)


def _own_files(space: SearchSpace, here: Path) -> dict[str, Path]:
    """The user's modules and data that a space names, as far as they are in the current folder.

    Raises:
        InputError: Data elsewhere are named by a relative path, which means nothing on the cluster.
    """
    names = [space.model.name, space.dataset.name]
    files = user_modules([name.partition(":")[0] for name in names if is_reference(name)], here)
    data = Path(space.dataset.name)
    if space.dataset.kind in ("arrays", "table") and not data.is_absolute():
        if ".." in data.parts or not (here / data).is_file():
            raise InputError(
                f"dataset.name: {data}: expected a file in this folder, to go with the job, or an absolute "
                "path that the cluster's nodes have."
            )
        files[data.as_posix()] = here / data
    if space.dataset.kind == "folder" and not data.is_absolute():
        raise InputError(
            f"dataset.name: {data}/: a folder does not go with the job; name it by an absolute path that the "
            "cluster's nodes have."
        )
    return files
