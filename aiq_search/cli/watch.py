"""``aiq watch STUDY``: a study as it runs, from any terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from aiq_search.cli.options import Format, FormatOption, StudyArgument, TrackingUri

__all__ = ["watch"]


def watch(
    study: StudyArgument,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 2.0,
    tracking_uri: TrackingUri = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Watch STUDY until no driver runs it; json and csv print its row of `aiq studies` then."""
    from aiq_search.app.look import describe_study
    from aiq_search.app.remote import find_any
    from aiq_search.app.watch import watch_events
    from aiq_search.cli.output import print_json, print_rows, stderr, stdout
    from aiq_search.cli.view import search_view

    found = find_any(study, tracking_uri)
    with search_view(stdout() if form is Format.TABLE else stderr()) as view:
        for event in watch_events(found, every):
            view.on_event(event)
    row = describe_study(found.refreshed())
    if form is Format.JSON:
        print_json(row)
    else:
        print_rows([row], form, ["study", "status", "trials", "complete", "pruned", "failed", "best_aiq"])
