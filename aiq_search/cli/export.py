"""``aiq export``, ``aiq verify`` and ``aiq predict``: the champion at home."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aiq_search.export import Predictions, Verification

__all__ = ["export", "predict", "verify"]

_AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Import the code that the bundle names; only if you trust it.")
]
_DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the data files; by default AIQ_DATA_DIR, or the study's.")
]
_Format = Annotated[str, typer.Option("--format", help="table, json or csv.")]


def export(
    study: Annotated[str, typer.Argument(help="Study, space, or models:/name@alias.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; must not exist.")],
    trial: Annotated[int | None, typer.Option(help="This exploring trial in place of the champion.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="safetensors, pt2 or onnx; repeatable. By default all that can be."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Write the champion of STUDY as files that run anywhere, and verify them."""
    from aiq_search.app.export import default_formats, export_study

    chosen = tuple(formats) if formats else default_formats()
    if not formats and "onnx" not in chosen:
        typer.echo("Without ONNX: it needs pip install 'aiq-search[onnx]'.", err=True)
    result = export_study(study, output, trial=trial, formats=chosen, force=force, data_dir=data_dir)
    typer.echo(f"{result.record.name} of study {result.study}", err=True)
    _show_checks(result.verification, err=True)
    typer.echo(result.directory)


def verify(
    directory: Annotated[Path, typer.Argument(help="A bundle.")],
    data_dir: _DataDir = None,
    no_data: Annotated[
        bool, typer.Option("--no-data", help="Check files and example only, without the data set.")
    ] = False,
    allow_code: _AllowCode = False,
    output_format: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Prove that a bundle is undamaged, and that every format gives the numbers on its card."""
    from aiq_search.app.bundle import verify as verify_directory

    _check_format(output_format, ("table", "json"))
    verification = verify_directory(
        directory, data_dir=data_dir, with_data=not no_data, allow_code=allow_code
    )
    if output_format == "json":
        checks = [{"check": c.name, "passed": c.passed, "detail": c.detail} for c in verification.checks]
        typer.echo(json.dumps({"bundle": str(directory), "checks": checks}, indent=2))
    else:
        _show_checks(verification, err=False)


def predict(
    directory: Annotated[Path, typer.Argument(help="A bundle.")],
    inputs: Annotated[list[Path], typer.Argument(help="Images, folders of them, .npy or .npz.")],
    allow_code: _AllowCode = False,
    output_format: _Format = "table",
) -> None:
    """Classify images or arrays with a bundle: labels and probabilities."""
    from aiq_search.app.bundle import predict_files

    _check_format(output_format, ("table", "json", "csv"))
    predictions = predict_files(directory, inputs, allow_code=allow_code)
    for note in predictions.notes:
        typer.echo(f"Note: {note}", err=True)
    _show_predictions(predictions, output_format)


def _check_format(given: str, known: tuple[str, ...]) -> None:
    from aiq_search.errors import InputError
    from aiq_search.suggest import did_you_mean

    if given not in known:
        raise InputError(f"--format: unknown format {given!r}; {did_you_mean(given, known)}")


def _show_checks(verification: Verification, *, err: bool) -> None:
    for check in verification.checks:
        typer.echo(f"{'ok' if check.passed else '--'}  {check.name}: {check.detail}", err=err)


def _show_predictions(predictions: Predictions, output_format: str) -> None:
    answers = predictions.answers
    if output_format == "json":
        rows = [
            {
                "input": answer.name,
                "label": answer.label,
                "probability": answer.probability,
                "probabilities": answer.probabilities,
            }
            for answer in answers
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    if output_format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(["input", "label", "probability", *answers[0].probabilities])
        for answer in answers:
            writer.writerow([answer.name, answer.label, answer.probability, *answer.probabilities.values()])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("input", "label", "probability", box=None, pad_edge=False)
    for answer in answers:
        table.add_row(answer.name, answer.label, f"{answer.probability:.4f}")
    Console(soft_wrap=True).print(table)
