"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Address",
    "AllowCode",
    "DataDir",
    "Format",
    "FormatOption",
    "SharedStorage",
    "StudyArgument",
    "StudyStorage",
    "TrackingUri",
    "Trials",
]


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


FormatOption = Annotated[Format, typer.Option("--format", help="How to print it.")]
StudyArgument = Annotated[str, typer.Argument(help="A study's id, or a space's name for its newest study.")]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow's server or store; by default ./mlflow.db.", show_default=False)
]
SharedStorage = Annotated[
    str | None,
    typer.Option(
        help="Where checkpoints lie, if the cluster has several nodes: a path that each reaches, or s3://….",
        envvar="AIQ_STORAGE",
        show_default=False,
    ),
]
StudyStorage = Annotated[
    str | None,
    typer.Option(
        help="URL of a database for the trials; by default a journal in AIQ_HOME.",
        envvar="AIQ_STUDY_STORAGE",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the data files; by default AIQ_DATA_DIR.", show_default=False),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="A Ray cluster that this machine is a node of (host:port, auto); by default one is started.",
        envvar="RAY_ADDRESS",
        show_default=False,
    ),
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        metavar="PACKAGE",
        help="Code to import besides modules in this folder's tree; repeatable. Also AIQ_ALLOW_CODE.",
        show_default=False,
    ),
]
Trials = Annotated[
    int | None, typer.Option(min=1, help="Configurations to try, in place of the file's.", show_default=False)
]
