"""``aiq watch STUDY``: a study as it runs, from any terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from aiq_search.cli.options import Format, FormatOption, OptionalStudy, TrackingUri

__all__ = ["watch"]


def watch(
    study: OptionalStudy = None,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Polling interval in seconds.")
    ] = 2.0,
    tracking_uri: TrackingUri = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Watch STUDY until its search ends; json and csv then print its row of `aiq studies`."""
    from aiq_search.app.look import Watch
    from aiq_search.cli.output import print_json, print_rows, stderr, stdout
    from aiq_search.terminal.view import search_view

    watched = Watch(study, tracking_uri)
    with search_view(stdout() if form is Format.TABLE else stderr()) as view:
        for event in watched.events(every):
            view.on_event(event)
    row = watched.row()
    if form is Format.JSON:
        print_json(row)
    else:
        print_rows([row], form, ["study", "status", "trials", "complete", "pruned", "failed", "best_aiq"])
