"""``aiq measure``: the efficiency and aIQ of a network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiq_search.cli.options import AllowCode, DataDir, Format, FormatOption

if TYPE_CHECKING:
    from aiq_search.app.measure import Measurement

__all__ = ["measure"]

_FEW = 3  # warnings that are printed with the table; a deep network has one for each layer


def measure(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A bundle's directory, or package.module:function.")
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A data set's name, an .npz file, or package.module:function; by default a bundle's own.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Weights for the function's network, as .safetensors.", show_default=False
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An argument for the function; repeatable."),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="train|validation|test", help="Split to measure on.")
    ] = "test",
    beta: Annotated[float, typer.Option(metavar="X", help="Weight of the accuracy in aIQ.")] = 2.0,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="Name, pattern or class (LSTM) of layers to measure; repeatable. By default every hidden "
            "linear layer and convolution, or those that a bundle was measured by.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Layers to leave out, likewise; repeatable."),
    ] = None,
    point: Annotated[
        str | None,
        typer.Option(metavar="after|before", help="Capture states after (the default) or before each layer."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="N|KEY", help="Which output of a layer that returns several; by default the first, 0."
        ),
    ] = None,
    axis: Annotated[
        int | None,
        typer.Option(metavar="N", help="Axis of the neurons, where a layer's class does not determine it."),
    ] = None,
    order: Annotated[
        float | None, typer.Option(metavar="X", help="Order of the entropy; 1, the default, is Shannon's.")
    ] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Measure efficiency and aIQ of MODEL on a data set."""
    from aiq_search.app.measure import measure_network

    capture = {
        "layers": layers or None,
        "exclude": exclude or None,
        "point": point,
        "output": int(output) if output and output.removeprefix("-").isdecimal() else output,
        "axis": axis,
        "order": "inf" if order == math.inf else order,
    }
    measured = measure_network(
        model,
        data=data,
        split=split,
        weights=weights,
        arguments=arguments or (),
        data_dir=data_dir,
        beta=beta,
        allow_code=allow_code or (),
        **{name: value for name, value in capture.items() if value is not None},
    )
    _print(measured, form)


def _device(measured: Measurement) -> Iterator[str]:
    """What the network asks of a device, in a few lines."""
    device = measured.device
    if device is None:
        return
    sizes = "; ".join(
        f"{name}: {size:,} bytes of weights, {device.activations[name]:,} of activations at once"
        for name, size in device.weights.items()
    )
    yield f"  {measured.macs:,} multiply-accumulates a sample; {sizes}"
    times = ", ".join(f"{name} {value:,.4g}" for name, value in device.latency.items())
    yield f"  microseconds of one sample on one thread of this machine: {times}"
    for name, build in device.builds.items():
        yield f"  C in {name} on a Cortex-M4: {build.flash:,} bytes of flash, {build.ram:,} of RAM"


def _print(measured: Measurement, form: Format) -> None:
    from aiq_search.cli.output import number, print_json, print_message, print_rows, show

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
        totals = "  ".join(f"{name} {number(value)}" for name, value in numbers.items() if value is not None)
        show(
            f"  {totals}  (beta {report.beta:g})",
            f"  {measured.data}, {measured.split} split, N = {measured.samples:,}; "
            f"states {measured.capture}; {measured.parameters:,} parameters; weights: {measured.weights}",
            *_device(measured),
        )
    for sentence in report.warnings[:_FEW]:
        print_message(f"Warning: {sentence}")
    if len(report.warnings) > _FEW:
        more = len(report.warnings) - _FEW
        print_message(f"{more} more warnings; --format json has them all.")
