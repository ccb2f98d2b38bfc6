"""``aiq deploy``: secrets for the containers' configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiq_search.cli.typer_app import CommandLine

__all__ = ["app"]

app = CommandLine(help="Prepare a deployment in containers.")


@app.callback()
def _deploy() -> None:
    """Prepare a deployment in containers."""  # a single command would become `deploy` itself


@app.command()
def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder with .env.example: . or deploy/kubernetes."),
    ] = Path(),
) -> None:
    """Write FOLDER/.env: its .env.example, with a random secret for each empty value."""
    from aiq_search.app.deploy import init_environment
    from aiq_search.cli.output import print_line, print_message

    path, names = init_environment(folder)
    print_line(path)
    print_message(
        f"{len(names)} random secrets ({', '.join(names)}), readable by you alone. Keep the file out of "
        "version control and in your backup: the databases are created with its passwords."
    )
