"""``aiq cluster``: a cluster on this machine, without containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aiq_search.cli.options import Format, FormatOption
from aiq_search.cli.typer_app import CommandLine

if TYPE_CHECKING:
    from aiq_search.cluster.local import ClusterState

__all__ = ["app"]

app = CommandLine(help="A cluster on this machine: PostgreSQL, MLflow and Ray as plain processes.")


def _port(service: str) -> object:
    return typer.Option(
        min=1, max=65535, metavar="N", help=f"Port of {service}; by default a free one.", show_default=False
    )


@app.command()
def up(
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Ray workers besides the head; by default 0.", show_default=False
        ),
    ] = None,
    mlflow_port: Annotated[int | None, _port("MLflow")] = None,
    dashboard_port: Annotated[int | None, _port("Ray's dashboard")] = None,
    ray_port: Annotated[int | None, _port("Ray's head")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Start the services that are not running, and print their addresses."""
    from aiq_search.app.local_cluster import local_cluster
    from aiq_search.cli.output import print_message

    options = {"mlflow": mlflow_port, "dashboard": dashboard_port, "ray": ray_port}
    ports = {name: port for name, port in options.items() if port is not None}
    _show(local_cluster().up(workers, ports, report=print_message), form)


@app.command()
def status(form: FormatOption = Format.TABLE) -> None:
    """Show which services are running, and their addresses. Exits with 1 if one is missing."""
    from aiq_search.app.local_cluster import local_cluster
    from aiq_search.cli.output import print_message

    cluster = local_cluster()
    state = cluster.state
    if state is None:
        print_message(f"No cluster is running in {cluster.home}. Start one: aiq cluster up")
        raise typer.Exit(1)
    _show(state, form)
    if state.dead:
        print_message("Some services are not running. Restart them: aiq cluster up")
        raise typer.Exit(1)


@app.command()
def down(
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also delete databases, artifacts and secrets.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, even while a study is running.")
    ] = False,
) -> None:
    """Stop what `aiq cluster up` started, and nothing else. Data is kept. Asks if a study is running."""
    from aiq_search.app.local_cluster import stop_cluster
    from aiq_search.cli.output import print_message

    agree = (lambda studies: True) if yes else _agrees
    stopped = stop_cluster(agree, delete_data=delete_data, report=print_message)
    if stopped is None:
        print_message("Nothing was stopped.")
        raise typer.Exit(1)
    if not stopped:
        print_message("Nothing was running.")
    if delete_data:
        print_message("Deleted PostgreSQL's data, MLflow's artifacts and the secrets.")


def _agrees(studies: list[str]) -> bool:
    """Ask whether the cluster may go while studies are running; without a terminal it may not."""
    from aiq_search.cli.output import ask, print_message
    from aiq_search.errors import InputError

    names, are = ", ".join(studies), "study is" if len(studies) == 1 else "studies are"
    print_message(f"{len(studies)} {are} running: {names}. `aiq stop STUDY` ends one after its epoch.")
    agreed = ask("Stop the cluster, and interrupt what it trains?")
    if agreed is None:
        raise InputError(
            f"no confirmation, nothing was stopped: {names} would be interrupted; --yes stops without asking."
        )
    return agreed


@app.command()
def env() -> None:
    """Print what another machine needs to use this cluster, as lines for its shell; they hold SECRETS."""
    from aiq_search.app.local_cluster import connection_lines
    from aiq_search.cli.output import print_line

    for line in connection_lines():
        print_line(line)


def _show(state: ClusterState, form: Format) -> None:
    from aiq_search.cli.output import print_rows

    where = {
        "postgres": f"127.0.0.1:{state.ports['postgres']}",
        "mlflow": state.mlflow,
        "ray-head": state.dashboard,
    }
    rows = [
        {
            "service": name,
            "status": "running" if state.is_alive(name) else "not running",
            "address": where.get(name),
            "pid": state.processes[name].pid if state.is_alive(name) else None,
        }
        for name in (service.name for service in state.services)
    ]
    print_rows(rows, form, ["service", "status", "address"])
