"""``aiq submit``, ``jobs``, ``status``, ``logs`` and ``stop``: studies on a cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiq_search.cli.options import (
    AllowCode,
    DataDir,
    Format,
    FormatOption,
    SetOption,
    SpaceFile,
    StudyArgument,
    StudyId,
    Trials,
    WarmStart,
)

if TYPE_CHECKING:
    from aiq_search.app.options import RunOptions
    from aiq_search.cluster.jobs import JobsClient

__all__ = ["jobs", "logs", "resume_on_cluster", "status", "stop", "submit"]

ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="Ray's dashboard, which has the Jobs API; by default the cluster of this folder, or "
        "http://127.0.0.1:8265.",
        envvar="RAY_API_SERVER_ADDRESS",
        show_default=False,
    ),
]
_COLUMNS = ["study", "status", "submitted", "ended", "exit_code"]


def submit(
    file: SpaceFile,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its log until it ends.")] = False,
    trials: Trials = None,
    set_: SetOption = None,
    study: StudyId = None,
    data_dir: DataDir = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Where checkpoints are kept: a path that every node of the cluster can reach, or s3://…; by "
            "default the cluster's own place.",
            show_default=False,
        ),
    ] = None,
    warm_start: WarmStart = None,
    allow_code: AllowCode = None,
    drain: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="Time that `aiq stop` leaves for running epochs.")
    ] = 120,
    address: ClusterAddress = None,
) -> None:
    """Run the search in FILE on a cluster, and print the study's id.

    Folders, places and earlier studies are those of the cluster.
    """
    from aiq_search.app.jobs import connect, submit_study
    from aiq_search.app.options import RunOptions
    from aiq_search.cli.output import print_line, print_message

    options = RunOptions(
        overrides=set_ or (),
        trials=trials,
        study_id=study,
        data_dir=data_dir,
        storage=storage,
        warm_start=warm_start or (),
        allow_code=allow_code or (),
    )
    client = connect(address)
    submitted = submit_study(file, client, options, drain_seconds=drain)
    print_line(submitted)
    if follow:
        _follow(client, submitted, _log_to_stderr)
    else:
        print_message(f"Submitted. Follow it: aiq logs -f {submitted}")


def jobs(address: ClusterAddress = None, form: FormatOption = Format.TABLE) -> None:
    """List the studies that were submitted since the cluster started, the oldest first."""
    from aiq_search.app.jobs import connect, describe_job
    from aiq_search.cli.output import print_message, print_rows

    rows = [describe_job(job) for job in connect(address).jobs()]
    if not rows and form is Format.TABLE:
        print_message("No study was submitted since the cluster started. Submit one: aiq submit FILE")
        return
    print_rows([_for_people(row) for row in rows] if form is Format.TABLE else rows, form, _COLUMNS)


def status(study: StudyArgument, address: ClusterAddress = None, form: FormatOption = Format.TABLE) -> None:
    """Show the status of STUDY's job and its trials recorded in MLflow."""
    from aiq_search.app.jobs import connect, job_status
    from aiq_search.cli.output import print_json, print_message, print_rows

    row, trouble = job_status(connect(address), study)
    if trouble is not None:
        print_message(f"Note: {trouble}")
    if form is Format.JSON:
        print_json(row)
        return
    columns = ["study", "status", "trials", "complete", "pruned", "failed", "running", "best_aiq", "message"]
    print_rows([_for_people(row) if form is Format.TABLE else row], form, columns)


def logs(
    study: StudyArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until it ends.")] = False,
    address: ClusterAddress = None,
) -> None:
    """Print the log of STUDY's job. With -f, the exit code is the study's."""
    from aiq_search.app.jobs import connect
    from aiq_search.cli.output import print_log

    client = connect(address)
    job = client.find(study)
    if follow:
        _follow(client, job.study, print_log)
    else:
        print_log(client.logs(job.study))


def stop(
    study: StudyArgument,
    wait: Annotated[bool, typer.Option(help="Wait until it has ended.")] = True,
    address: ClusterAddress = None,
) -> None:
    """Stop STUDY after its running epochs; `aiq resume` continues it."""
    from aiq_search.app.jobs import connect
    from aiq_search.cli.output import print_message

    client = connect(address)
    job = client.find(study)
    if job.over:
        print_message(f"study {job.study} has already ended: {job.status}")
        return
    client.stop(job.study)
    print_message(f"Stopping study {job.study} after its running epochs.")
    if wait:
        job = client.wait(job.study)
        print_message(f"It is {job.status}. Continue with: aiq resume {job.study}")


def resume_on_cluster(context: typer.Context, name: str, options: RunOptions, follow: bool) -> bool:
    """Continue a study on the cluster that it was submitted to; False where it is this machine's."""
    from aiq_search.app.jobs import connect, resume_submitted
    from aiq_search.cli.output import print_line, print_message

    unfit = _on_command_line(context, "file", "study_storage", "storage", "tracking_uri", "address")
    study = resume_submitted(name, options, unfit)
    if study is None:
        return False
    print_line(study)
    if follow:
        _follow(connect(), study, _log_to_stderr)
    else:
        print_message(f"Submitted again, to the cluster. Follow it: aiq logs -f {study}")
    return True


def _on_command_line(context: typer.Context, *parameters: str) -> list[str]:
    """Those of the parameters that were typed, as options: not those that the environment sets."""
    sources = {name: context.get_parameter_source(name) for name in parameters}
    return [
        f"--{name.replace('_', '-')}"
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    ]


def _log_to_stderr(text: str) -> None:
    from aiq_search.cli.output import plain

    sys.stderr.write(plain(text, longest=None))
    sys.stderr.flush()


def _follow(client: JobsClient, study: str, write: Callable[[str], object]) -> None:
    """Show a study's log until it ends; Ctrl-C does not stop the study. Exits with the study's code."""
    from aiq_search.app.jobs import failure_of_job
    from aiq_search.cli.output import print_message

    try:
        job = client.follow(study, write)
    except KeyboardInterrupt:
        print_message(f"\nThe study keeps running. Follow it: aiq logs -f {study}. Stop it: aiq stop {study}")
        raise
    failure = failure_of_job(job)
    if failure is not None:
        raise failure
    if job.status == "stopped":
        print_message(f"Stopped. Continue with: aiq resume {study}")
        raise typer.Exit(143)


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        name: time.strftime("%Y-%m-%d %H:%M", time.localtime(row[name]))
        for name in ("submitted", "ended")
        if row.get(name)
    }
