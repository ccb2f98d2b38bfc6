"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aiq_search.cli.completion import space_names, study_names, warm_starts

__all__ = [
    "Address",
    "AllowCode",
    "BundleArgument",
    "DataDir",
    "Format",
    "FormatOption",
    "NoData",
    "OptionalStudy",
    "SetOption",
    "SharedStorage",
    "SpaceFile",
    "StudyArgument",
    "StudyId",
    "StudyStorage",
    "TrackingUri",
    "Trials",
    "WarmStart",
]


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


FormatOption = Annotated[Format, typer.Option("--format", metavar="table|json|csv", help="Output format.")]
SpaceFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A search-space file (`aiq new` writes one), or the name of a shipped one, such as digits.",
        autocompletion=space_names,
    ),
]
StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study's id, or a space's name for its newest study.",
        autocompletion=study_names,
    ),
]
OptionalStudy = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
        help="A study's id, or a space's name for its newest study; by default the newest of all.",
        autocompletion=study_names,
        show_default=False,
    ),
]
BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A directory that `aiq export` wrote.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Edit a field, such as search.seed=1; repeatable."),
]
Trials = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Number of configurations, in place of the file's.", show_default=False
    ),
]
StudyId = Annotated[str | None, typer.Option(metavar="ID", help="Id of the new study.", show_default=False)]
WarmStart = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STUDY|STORAGE",
        help="An earlier study of the same space to learn from, or an Optuna storage, such as "
        "sqlite:///old.db?study=NAME, whose best configurations are tried first; repeatable.",
        autocompletion=warm_starts,
        show_default=False,
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="MLflow's server or store; by default MLFLOW_TRACKING_URI, or ./mlflow.db.",
        show_default=False,
    ),
]
SharedStorage = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Where checkpoints are kept, for a cluster of several nodes: a path that every node can reach, "
        "or s3://….",
        envvar="AIQ_STORAGE",
        show_default=False,
    ),
]
StudyStorage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A database for the trials; by default a journal in AIQ_HOME.",
        envvar="AIQ_STUDY_STORAGE",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of the data files; by default AIQ_DATA_DIR.", show_default=False
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="A Ray cluster that this machine is a node of, or auto; by default one is started.",
        envvar="RAY_ADDRESS",
        show_default=False,
    ),
]
NoData = Annotated[
    bool, typer.Option("--no-data", help="Verify the files and the example only, without the data set.")
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        metavar="PACKAGE",
        help="Package to import code from, besides modules in this folder's tree; repeatable. Also "
        "AIQ_ALLOW_CODE.",
        show_default=False,
    ),
]
