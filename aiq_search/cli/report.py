"""``aiq report STUDY``: one HTML file that explains a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiq_search.cli.options import DataDir, StudyArgument, TrackingUri

__all__ = ["report"]


def report(
    study: StudyArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write; by default in the study's folder.", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the report of STUDY, which opens without a network, and keep it in MLflow too."""
    from aiq_search.app.report import report_study

    path, missing = report_study(study, output, data_dir=data_dir, tracking_uri=tracking_uri)
    typer.echo(path)
    if missing:
        typer.echo(f"Not in MLflow: {missing}", err=True)
