"""``aiq submit``, ``jobs``, ``status``, ``logs`` and ``stop``: studies on a cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiq_search.cli.options import Format, FormatOption, StudyArgument, Trials
from aiq_search.errors import InputError

if TYPE_CHECKING:
    from aiq_search.cluster.jobs import JobsClient
    from aiq_search.study import Study
    from aiq_search.tracking.reading import RemoteStudy

__all__ = ["given", "jobs", "logs", "resume_on_cluster", "status", "stop", "submit"]

ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Ray's dashboard, which has the Jobs API; by default the cluster of this folder, or "
        "http://127.0.0.1:8265.",
        envvar="RAY_API_SERVER_ADDRESS",
        show_default=False,
    ),
]
_COLUMNS = ["study", "status", "submitted", "ended", "exit_code"]


def submit(
    file: Annotated[Path, typer.Argument(help="A search-space file, such as search_spaces/digits.yaml.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its log until it ends.")] = False,
    trials: Trials = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Edit a field, such as search.seed=1; repeatable."),
    ] = None,
    study: Annotated[str | None, typer.Option(help="The study's id.", show_default=False)] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the data files on the cluster.", show_default=False),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where checkpoints lie: a path that each node of the cluster reaches, or s3://…; by "
            "default where the cluster has them.",
            show_default=False,
        ),
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(help="An earlier study on the cluster to learn from; repeatable.", show_default=False),
    ] = None,
    drain: Annotated[
        int, typer.Option(min=1, help="Seconds that `aiq stop` gives it to finish what runs.")
    ] = 120,
    address: ClusterAddress = None,
) -> None:
    """Run the search in FILE on a cluster, and print the study's id."""
    from aiq_search.app.jobs import submit_study

    client = _client(address)
    submitted = submit_study(
        file,
        client,
        overrides=set_ or [],
        trials=trials,
        study_id=study,
        data_dir=data_dir,
        storage=storage,
        warm_start=warm_start or [],
        drain_seconds=drain,
    )
    typer.echo(submitted)
    sys.stdout.flush()
    if follow:
        _follow(client, submitted)
    else:
        typer.echo(f"Submitted. Follow it: aiq logs -f {submitted}", err=True)


def jobs(address: ClusterAddress = None, form: FormatOption = Format.TABLE) -> None:
    """List the studies that were submitted since the cluster started, the oldest first."""
    from aiq_search.app.jobs import describe_job
    from aiq_search.cli.output import print_rows

    rows = [describe_job(job) for job in _client(address).jobs()]
    if not rows and form is Format.TABLE:
        typer.echo("No study was submitted since the cluster started. Submit one: aiq submit FILE", err=True)
        return
    print_rows([_for_people(row) for row in rows] if form is Format.TABLE else rows, form, _COLUMNS)


def status(study: StudyArgument, address: ClusterAddress = None, form: FormatOption = Format.TABLE) -> None:
    """Say how STUDY's job is doing, and how far MLflow has heard of its trials."""
    from aiq_search.app.jobs import job_status
    from aiq_search.cli.output import print_json, print_rows

    row, trouble = job_status(_client(address), study)
    if trouble is not None:
        typer.echo(f"Note: {trouble}", err=True)
    if form is Format.JSON:
        print_json(row)
        return
    columns = ["study", "status", "trials", "complete", "pruned", "failed", "running", "best_aiq", "message"]
    print_rows([_for_people(row) if form is Format.TABLE else row], form, columns)


def logs(
    study: StudyArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    address: ClusterAddress = None,
) -> None:
    """Print what STUDY has printed on the cluster. With -f the exit code is the study's."""
    client = _client(address)
    job = client.find(study)
    if follow:
        _follow(client, job.study, write=sys.stdout.write)
    else:
        sys.stdout.write(client.logs(job.study))


def stop(
    study: StudyArgument,
    wait: Annotated[bool, typer.Option(help="Wait until it has ended.")] = True,
    address: ClusterAddress = None,
) -> None:
    """Ask STUDY to finish the epochs that run and to end then; `aiq resume` goes on later."""
    client = _client(address)
    job = client.find(study)
    if job.over:
        typer.echo(f"study {job.study} has ended already: {job.status}", err=True)
        return
    client.stop(job.study)
    typer.echo(f"Stopping study {job.study}: running epochs are finished and kept.", err=True)
    if wait:
        job = client.wait(job.study)
        typer.echo(f"It is {job.status}. Go on with: aiq resume {job.study}", err=True)


def given(context: typer.Context, *parameters: str) -> list[str]:
    """Those of the parameters that stand on the command line, as options: not what the environment says."""
    sources = {name: context.get_parameter_source(name) for name in parameters}
    return [
        f"--{name.replace('_', '-')}"
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    ]


def resume_on_cluster(
    study: Study | RemoteStudy, trials: int | None, data_dir: Path | None, unfit: Sequence[str] = ()
) -> None:
    """Hand a cluster's study in again.

    Raises:
        InputError: An option was given that only a study of this machine takes.
    """
    from aiq_search.app.jobs import resubmit_study

    if unfit:
        raise InputError(
            f"study {study.id} was submitted to a cluster and goes on there, with the file and the stores "
            f"that it has: expected no {', '.join(unfit)}; leave that out. RAY_API_SERVER_ADDRESS names "
            "the cluster."
        )
    resubmit_study(study, _client(None), trials=trials, data_dir=data_dir)
    typer.echo(study.id)
    typer.echo(f"Submitted again, to the cluster. Follow it: aiq logs -f {study.id}", err=True)


def _client(address: str | None) -> JobsClient:
    from aiq_search.app.local_cluster import leave_cluster
    from aiq_search.cluster.jobs import JobsClient

    leave_cluster(address)
    return JobsClient(address)


def _follow(client: JobsClient, study: str, write: Any = sys.stderr.write) -> None:  # noqa: ANN401
    """Show a study's log until it ends; Ctrl-C leaves the study alone. Exits with the study's code."""
    from aiq_search.app.jobs import failure_of_job

    def show(text: str) -> None:
        write(text)
        sys.stdout.flush()
        sys.stderr.flush()

    try:
        job = client.follow(study, show)
    except KeyboardInterrupt:
        typer.echo(f"\nThe study goes on: aiq logs -f {study}; aiq stop {study}", err=True)
        raise
    failure = failure_of_job(job)
    if failure is not None:
        raise failure
    if job.status == "stopped":
        typer.echo(f"Stopped. Go on with: aiq resume {study}", err=True)
        raise typer.Exit(143)


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        name: time.strftime("%Y-%m-%d %H:%M", time.localtime(row[name]))
        for name in ("submitted", "ended")
        if row.get(name)
    }
