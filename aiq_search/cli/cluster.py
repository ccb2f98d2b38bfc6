"""``aiq cluster``: a cluster on this machine, without containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aiq_search.cli.options import Format, FormatOption

if TYPE_CHECKING:
    from aiq_search.cluster.local import ClusterState

__all__ = ["app"]

app = typer.Typer(
    help="A cluster on this machine: PostgreSQL, MLflow and Ray as plain processes.", no_args_is_help=True
)

_Port = typer.Option(min=1, max=65535, show_default=False)


@app.command()
def up(
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Ray workers beside the head; by default 0.", show_default=False),
    ] = None,
    mlflow_port: Annotated[int | None, _Port] = None,
    dashboard_port: Annotated[int | None, _Port] = None,
    ray_port: Annotated[int | None, _Port] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Start what does not run yet, and say where it is."""
    from aiq_search.app.local_cluster import local_cluster

    given = {"mlflow": mlflow_port, "dashboard": dashboard_port, "ray": ray_port}
    ports = {name: port for name, port in given.items() if port is not None}
    state = local_cluster().up(workers, ports, report=lambda line: typer.echo(line, err=True))
    _show(state, form)


@app.command()
def status(form: FormatOption = Format.TABLE) -> None:
    """Say what runs, and where. Exit code 1 where something should run and does not."""
    from aiq_search.app.local_cluster import local_cluster

    cluster = local_cluster()
    state = cluster.state
    if state is None:
        typer.echo(f"No cluster runs in {cluster.home}. Start one: aiq cluster up", err=True)
        raise typer.Exit(1)
    _show(state, form)
    if state.dead:
        typer.echo("Not everything runs. Mend it: aiq cluster up", err=True)
        raise typer.Exit(1)


@app.command()
def down(
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also remove databases, artifacts and secrets.")
    ] = False,
) -> None:
    """End what `aiq cluster up` started, and nothing else. The data stay."""
    from aiq_search.app.local_cluster import local_cluster

    ended = local_cluster().down(delete_data, report=lambda line: typer.echo(line, err=True))
    if not ended:
        typer.echo("Nothing was running.", err=True)
    if delete_data:
        typer.echo("PostgreSQL's data, MLflow's artifacts and the secrets are deleted.", err=True)


@app.command()
def env() -> None:
    """Print what another machine needs to use this cluster: SECRETS, as lines for its shell."""
    from aiq_search.app.local_cluster import connection_lines

    for line in connection_lines():
        typer.echo(line)


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
