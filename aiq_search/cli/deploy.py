"""``aiq deploy``: secrets for the containers' configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Prepare a deployment in containers.", no_args_is_help=True)


@app.callback()
def _deploy() -> None:
    """Keep ``init`` a command of its own: a single one would become ``deploy`` itself."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of .env.example: . or deploy/kubernetes.")] = Path(),
) -> None:
    """Write FOLDER/.env: its .env.example, with a random secret wherever that has no value."""
    from aiq_search.app.deploy import init_environment
    from aiq_search.cli.output import stderr

    path, names = init_environment(folder)
    typer.echo(path)
    stderr().print(
        f"{len(names)} random secrets ({', '.join(names)}); readable by you alone. Keep it out of version "
        "control and in your backup: the databases know its passwords.",
        markup=False,
        soft_wrap=True,
    )
