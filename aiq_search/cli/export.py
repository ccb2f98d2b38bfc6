"""``aiq export``, ``aiq verify`` and ``aiq predict``: bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiq_search.cli.completion import study_names
from aiq_search.cli.options import (
    AllowCode,
    BundleArgument,
    DataDir,
    Format,
    FormatOption,
    NoData,
    TrackingUri,
)

__all__ = ["export", "predict", "verify"]


def export(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="A study's id, a space's name for its newest study, or models:/name@alias.",
            autocompletion=study_names,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Directory to write; must not exist."),
    ],
    trial: Annotated[
        int | None, typer.Option(metavar="N", help="Export this trial in place of the champion.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="safetensors|pt2|onnx|c|int8",
            help="A format to write; repeatable. By default all that are available.",
        ),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(metavar="X", min=0, max=1, help="Accuracy on the test split that int8 may lose."),
    ] = 0.01,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    no_data: NoData = False,
    allow_code: AllowCode = None,
) -> None:
    """Write the champion of STUDY as files that run anywhere, and verify them.

    What comes from MLflow (models:/…, or a study whose folder is elsewhere) is verified like any bundle;
    --no-data and --allow-code are for that.
    """
    from aiq_search.app.bundles import take_home
    from aiq_search.cli.output import print_line, print_message

    exported = take_home(
        study,
        output,
        trial=trial,
        formats=formats or (),
        max_drop=max_drop,
        force=force,
        data_dir=data_dir,
        tracking_uri=tracking_uri,
        with_data=not no_data,
        allow_code=allow_code or (),
    )
    for note in exported.notes:
        print_message(note)
    for check in exported.verification.checks:
        print_message(f"{'ok' if check.passed else '--'}  {check.name}: {check.detail}")
    print_line(exported.directory)


def verify(
    bundle: BundleArgument,
    data_dir: DataDir = None,
    no_data: NoData = False,
    allow_code: AllowCode = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Prove that BUNDLE is undamaged, and that every format gives the numbers on its card."""
    from aiq_search.app.bundles import verify_directory
    from aiq_search.cli.output import print_json, print_rows

    verification = verify_directory(
        bundle, data_dir=data_dir, with_data=not no_data, allow_code=allow_code or ()
    )
    rows = [{"check": c.name, "passed": c.passed, "detail": c.detail} for c in verification.checks]
    if form is Format.JSON:
        print_json({"bundle": str(verification.directory), "checks": rows})
    else:
        print_rows(rows, form, ["check", "passed", "detail"])


def predict(
    bundle: BundleArgument,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Pictures, folders of pictures, tables, .npy or .npz files."),
    ],
    allow_code: AllowCode = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Classify INPUTs with BUNDLE: labels and probabilities."""
    from aiq_search.app.bundles import predict_files
    from aiq_search.cli.output import print_json, print_message, print_rows

    predictions = predict_files(bundle, inputs, allow_code=allow_code or ())
    for note in predictions.notes:
        print_message(f"Note: {note}")
    rows = [
        {"input": answer.name, "label": answer.label, "probability": answer.probability}
        for answer in predictions.answers
    ]
    each = [answer.probabilities for answer in predictions.answers]
    if form is Format.JSON:
        print_json([{**row, "probabilities": p} for row, p in zip(rows, each, strict=True)])
    else:
        flat = [
            {**row, **{f"p({name})": value for name, value in p.items()}}
            for row, p in zip(rows, each, strict=True)
        ]
        print_rows(flat, form, ["input", "label", "probability"])
