"""``aiq ui [STUDY]``: browse the runs in MLflow."""

from __future__ import annotations

import signal
import sys
import webbrowser
from functools import partial
from types import FrameType
from typing import Annotated

import typer

from aiq_search.cli.options import OptionalStudy, TrackingUri

__all__ = ["ui"]


def ui(
    study: OptionalStudy = None,
    tracking_uri: TrackingUri = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, metavar="N", help="Port; by default 5000, or a free one.", show_default=False
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser, on a terminal.")] = True,
) -> None:
    """Serve MLflow's user interface until Ctrl-C, opened at STUDY."""
    from aiq_search.cli.output import print_message

    print_message("Starting MLflow …")
    from aiq_search.app.ui import open_ui

    signal.signal(signal.SIGTERM, _interrupt)  # stops the server too, as Ctrl-C does
    try:
        with open_ui(study, tracking_uri, host, port, partial(_show, browser=browser)) as server:
            server.wait()
    except KeyboardInterrupt:
        print_message("Stopped.")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(page: str, study: str | None, *, browser: bool) -> None:
    from aiq_search.cli.output import print_line, print_message

    if study is not None:
        print_message(f"study {study}")
    print_line(page)
    print_message("Press Ctrl-C to stop.")
    if browser and sys.stdout.isatty():
        webbrowser.open(page)
