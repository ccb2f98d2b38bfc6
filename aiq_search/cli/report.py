"""``aiq report STUDY``: one HTML file that explains a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiq_search.cli.options import DataDir, OptionalStudy, TrackingUri

__all__ = ["report"]

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
    study: OptionalStudy = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write; by default report.html in the study's folder.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    allow_code: AllowReportCode = None,
) -> None:
    """Write the report of STUDY, an HTML file that works offline, and keep it in MLflow too."""
    from aiq_search.app.look import find_any
    from aiq_search.app.report import report_study
    from aiq_search.cli.output import print_line, print_message

    if study is None:
        study = find_any(tracking_uri=tracking_uri).id
        print_message(f"study {study}, the newest")
    path, missing = report_study(
        study, output, data_dir=data_dir, tracking_uri=tracking_uri, allow_code=allow_code or ()
    )
    print_line(path)
    if missing:
        print_message(f"Not in MLflow: {missing}")
