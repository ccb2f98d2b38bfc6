"""``aiq measure``: what the states of a network say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiq_search.cli.options import AllowCode, DataDir, Format, FormatOption

if TYPE_CHECKING:
    from aiq_search.app.measure import Measurement

__all__ = ["measure"]

_FEW = 3  # warnings that a person is shown; a deep network has one a layer


def measure(
    model: Annotated[str, typer.Argument(help="A bundle's directory, or package.module:function.")],
    data: Annotated[
        str | None,
        typer.Option(help="A data set's name, an .npz, or package.module:function; a bundle brings its own."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the function's network, as .safetensors.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Option("--set", help="name=value for the function; repeatable.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    beta: Annotated[float, typer.Option(help="Weight of the accuracy in aIQ.")] = 2.0,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Name or pattern of layers to measure; by default every hidden one."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Name or pattern of layers to leave out; repeatable.")
    ] = None,
    point: Annotated[str, typer.Option(help="Read states after or before each layer.")] = "after",
    order: Annotated[float, typer.Option(help="Order of the entropy; 1 is Shannon's.")] = 1.0,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Measure efficiency and aIQ of MODEL over a data set."""
    from aiq_search.app.measure import measure_network

    options = {"point": point, "order": order, "exclude": exclude or ()}
    measured = measure_network(
        model,
        data=data,
        split=split,
        weights=weights,
        arguments=arguments or (),
        data_dir=data_dir,
        beta=beta,
        allow_code=allow_code or (),
        layers=layers or None,
        **options,
    )
    _print(measured, form)


def _print(measured: Measurement, form: Format) -> None:
    from aiq_search.cli.output import number, print_json, print_rows, stderr, stdout

    report = measured.report
    if form is Format.JSON:
        print_json(measured.document())
        return
    columns = [
        "name", "type", "neurons", "observations", "distinct", "seen_once", "entropy", "ceiling",
        "efficiency", "always_off", "always_on", "groups",
    ]  # fmt: skip
    print_rows(report.rows(), form, columns)
    if form is Format.TABLE:
        numbers = {"efficiency": report.efficiency, "accuracy": report.accuracy, "aIQ": report.aiq}
        said = "  ".join(f"{name} {number(value)}" for name, value in numbers.items() if value is not None)
        stdout().print(f"  {said}  (beta {report.beta:g})", markup=False)
        stdout().print(
            f"  {measured.data}, {measured.split} split, N = {measured.samples:,}; states {report.point} "
            f"each layer; {measured.parameters:,} parameters; weights: {measured.weights}",
            markup=False,
        )
    for sentence in report.warnings[:_FEW]:
        stderr().print(f"Warning: {sentence}", markup=False)
    if len(report.warnings) > _FEW:
        more = len(report.warnings) - _FEW
        stderr().print(f"{more} more warnings; --format json has them all.", markup=False)
