"""``aiq export``, ``aiq verify`` and ``aiq predict``: the champion at home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiq_search.cli.options import DataDir, Format, FormatOption, TrackingUri

if TYPE_CHECKING:
    from aiq_search.export import Verification

__all__ = ["export", "predict", "verify"]

_AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Import the code that the bundle names; only if you trust it.")
]
_NoData = Annotated[
    bool, typer.Option("--no-data", help="Verify files and example only, without the data set.")
]
_Bundle = Annotated[Path, typer.Argument(help="A directory that `aiq export` wrote.")]


def export(
    study: Annotated[str, typer.Argument(help="A study, a space for its newest, or models:/name@alias.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; must not exist.")],
    trial: Annotated[int | None, typer.Option(help="This exploring trial in place of the champion.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="safetensors, pt2 or onnx; repeatable. By default all that can be."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    no_data: _NoData = False,
    allow_code: _AllowCode = False,
) -> None:
    """Write the champion of STUDY as files that run anywhere, and verify them.

    What comes from MLflow (models:/…, or a study whose folder is elsewhere) is verified like any bundle; the
    last two options are for that.
    """
    from aiq_search.app.registered import is_registered
    from aiq_search.app.remote import export_remote, find_any
    from aiq_search.errors import InputError
    from aiq_search.study import Phase, Study

    if is_registered(study):
        from aiq_search.app.registered import export_registered

        if trial is not None or formats:
            raise InputError(
                "--trial and --format choose from a study; a registered model is taken as it is."
            )
        verification = export_registered(
            study,
            output,
            tracking_uri=tracking_uri,
            force=force,
            data_dir=data_dir,
            with_data=not no_data,
            allow_code=allow_code,
        )
    elif not isinstance(found := find_any(study, tracking_uri), Study):
        if trial is not None or formats:
            raise InputError(
                f"study {found.id} is not here but in MLflow, which has its champion as it is: --trial and "
                "--format choose where the study's folder is."
            )
        verification = export_remote(
            found,
            output,
            force=force,
            data_dir=data_dir,
            with_data=not no_data,
            allow_code=allow_code,
        )
    else:
        from aiq_search.app.export import export_study

        result = export_study(
            study, output, trial=trial, formats=formats or None, force=force, data_dir=data_dir
        )
        typer.echo(f"{result.record.name} of study {result.study}", err=True)
        if result.record.key.phase is Phase.CONFIRM and trial is None:
            typer.echo("It is the best of the champion's seeds: on new data expect the mean.", err=True)
        verification = result.verification
    for check in verification.checks:
        typer.echo(f"{'ok' if check.passed else '--'}  {check.name}: {check.detail}", err=True)
    typer.echo(output)


def verify(
    bundle: _Bundle,
    data_dir: DataDir = None,
    no_data: _NoData = False,
    allow_code: _AllowCode = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Prove that BUNDLE is undamaged, and that every format gives the numbers on its card."""
    from aiq_search.app.bundle import verify as verify_directory

    _print_checks(
        verify_directory(bundle, data_dir=data_dir, with_data=not no_data, allow_code=allow_code), form
    )


def _print_checks(verification: Verification, form: Format) -> None:
    from aiq_search.cli.output import print_json, print_rows

    rows = [{"check": c.name, "passed": c.passed, "detail": c.detail} for c in verification.checks]
    if form is Format.JSON:
        print_json({"bundle": str(verification.directory), "checks": rows})
    else:
        print_rows(rows, form, ["check", "passed", "detail"])


def predict(
    bundle: _Bundle,
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, .npy or .npz files.")],
    allow_code: _AllowCode = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Classify INPUTS with BUNDLE: labels and probabilities."""
    from aiq_search.app.bundle import predict_files
    from aiq_search.cli.output import print_json, print_rows

    predictions = predict_files(bundle, inputs, allow_code=allow_code)
    for note in predictions.notes:
        typer.echo(f"Note: {note}", err=True)
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
