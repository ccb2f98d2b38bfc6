"""``aiq ui [STUDY]``: browse the runs in MLflow."""

from __future__ import annotations

import signal
import sys
import webbrowser
from types import FrameType
from typing import Annotated

import typer

__all__ = ["ui"]


def ui(
    study: Annotated[str | None, typer.Argument(help="Study or space to open at.")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store or server; by default sqlite:///mlflow.db here.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; by default 5000, or a free one.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser, on a terminal.")] = True,
) -> None:
    """Serve the MLflow user interface until Ctrl-C, and open it at STUDY, by default the newest."""
    typer.echo("Starting MLflow …", err=True)
    from aiq_search.app.ui import newest_study, open_ui

    study = study or newest_study()

    signal.signal(signal.SIGTERM, _interrupt)  # ends the server too, as Ctrl-C does
    try:
        with open_ui(study, tracking_uri, host, port, lambda page: _show(page, browser)) as server:
            server.wait()
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(page: str, browser: bool) -> None:
    typer.echo(page)
    typer.echo("Ctrl-C stops it.", err=True)
    sys.stdout.flush()
    if browser and sys.stdout.isatty():
        webbrowser.open(page)
