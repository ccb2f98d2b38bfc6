"""``aiq doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiq_search.cli.options import Format, FormatOption, TrackingUri

__all__ = ["doctor"]


def doctor(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY", help="Check this study too: its id, or a space's name.", show_default=False
        ),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what can be repaired safely (requires STUDY).")
    ] = False,
    tracking_uri: TrackingUri = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Check the environment, STUDY and its search, and suggest fixes.

    Exits with 1 if there is a problem.
    """
    from aiq_search.app.doctor import examine
    from aiq_search.cli.output import print_message, print_rows

    diagnosis = examine(study, fix=fix, tracking_uri=tracking_uri)
    for repair in diagnosis.repairs:
        print_message(repair)
    rows = [finding.document() for finding in diagnosis.findings]
    print_rows(rows, form, ["area", "level", "what", "remedy"])
    if diagnosis.has_problem:
        raise typer.Exit(1)
