"""``aiq report STUDY…``: one HTML file that explains a study, or compares several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiq_search.cli.completion import study_names
from aiq_search.cli.options import DataDir, TrackingUri
from aiq_search.errors import InputError

__all__ = ["report"]

Studies = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STUDY...",
        help="A study's id, or a space's name for its newest study; by default the newest of all. With "
        "several, they are compared.",
        autocompletion=study_names,
        show_default=False,
    ),
]
AllowReportCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        metavar="PACKAGE",
        help="Package of your own network or data, to show what only they can; repeatable.",
        show_default=False,
    ),
]


def report(
    studies: Studies = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write; by default report.html in the study's folder; comparison.html for several.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    allow_code: AllowReportCode = None,
) -> None:
    """Write the report of STUDY, an HTML file that works offline, and keep it in MLflow too.

    With several studies: their champions, fronts, costs and differing settings, side by side.
    """
    from aiq_search.app.look import find_any
    from aiq_search.app.report import compare_studies, report_study
    from aiq_search.cli.output import print_line, print_message

    if studies is not None and len(studies) > 1:
        if data_dir is not None or allow_code:
            raise InputError(
                "--data-dir and --allow-code are for the report of one study, but several were given: a "
                "comparison needs neither data nor code."
            )
        print_line(compare_studies(studies, output, tracking_uri=tracking_uri))
        return
    if studies:
        name = studies[0]
    else:
        name = find_any(tracking_uri=tracking_uri).id
        print_message(f"study {name}, the newest")
    path, missing = report_study(
        name, output, data_dir=data_dir, tracking_uri=tracking_uri, allow_code=allow_code or ()
    )
    print_line(path)
    if missing:
        print_message(f"Not in MLflow: {missing}")
