"""``aiq``: its commands, and how an error leaves it."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from aiq_search.cli import (
    cluster,
    delete,
    deploy,
    doctor,
    export,
    jobs,
    look,
    measure,
    new,
    report,
    search,
    slim,
    space,
    ui,
    watch,
)
from aiq_search.cli.typer_app import CommandLine
from aiq_search.errors import AiqError

__all__ = ["app", "main", "run"]

app = CommandLine(
    name="aiq",
    help="Search for the neural network with the best artificial intelligence quotient (aIQ).",
    pretty_exceptions_enable=False,
)

_SEARCH, _LOOK, _EXPORT, _CLUSTER = "Search", "Look", "Export and measure", "On a cluster"

app.command(rich_help_panel=_SEARCH)(new.new)
app.command(rich_help_panel=_SEARCH)(search.search)
app.command(rich_help_panel=_SEARCH)(search.resume)
app.command(rich_help_panel=_SEARCH)(search.retry)
app.command(rich_help_panel=_SEARCH)(delete.delete)
app.add_typer(space.app, name="space", rich_help_panel=_SEARCH)
app.command(rich_help_panel=_LOOK)(look.studies)
app.command(rich_help_panel=_LOOK)(look.trials)
app.command(rich_help_panel=_LOOK)(look.best)
app.command(rich_help_panel=_LOOK)(look.pareto)
app.command(rich_help_panel=_LOOK)(watch.watch)
app.command(rich_help_panel=_LOOK)(report.report)
app.command(rich_help_panel=_LOOK)(ui.ui)
app.command(rich_help_panel=_LOOK)(doctor.doctor)
app.command(rich_help_panel=_EXPORT)(export.export)
app.command(rich_help_panel=_EXPORT)(export.verify)
app.command(rich_help_panel=_EXPORT)(export.predict)
app.command(rich_help_panel=_EXPORT)(slim.slim)
app.command(rich_help_panel=_EXPORT)(measure.measure)
app.command(rich_help_panel=_CLUSTER)(jobs.submit)
app.command(rich_help_panel=_CLUSTER)(jobs.jobs)
app.command(rich_help_panel=_CLUSTER)(jobs.status)
app.command(rich_help_panel=_CLUSTER)(jobs.logs)
app.command(rich_help_panel=_CLUSTER)(jobs.stop)
app.add_typer(cluster.app, name="cluster", rich_help_panel=_CLUSTER)
app.add_typer(deploy.app, name="deploy", rich_help_panel=_CLUSTER)


def _print_version(wanted: bool) -> None:
    if wanted:
        from aiq_search import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Search for the neural network with the best artificial intelligence quotient (aIQ)."""
    from aiq_search.app.local_cluster import adopt_cluster
    from aiq_search.cli.output import print_message

    if context.invoked_subcommand != "cluster":  # which reports itself what is running
        trouble = adopt_cluster()
        if trouble is not None:
            print_message(f"Note: {trouble}")


def main() -> None:
    """Run the command line; an error on purpose becomes one message and an exit code."""
    from aiq_search.cli.output import print_error, use_for_logging

    use_for_logging()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # bars of seconds, on stderr
    try:
        app()
    except AiqError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`aiq trials | head`): there is nothing left to print to.
        sys.stderr.close()
        sys.exit(1)


def run() -> NoReturn:
    """The command ``aiq``: ``main`` as a process of its own."""
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    # Tearing down torch, Ray and MLflow takes seconds, and they have nothing left to do.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # its reader has gone, or it is closed
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
