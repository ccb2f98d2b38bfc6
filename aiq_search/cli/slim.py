"""``aiq slim``: a champion without the neurons that tell nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiq_search.cli.completion import study_names
from aiq_search.cli.options import AllowCode, DataDir, Format, FormatOption, TrackingUri

__all__ = ["slim"]


def slim(
    source: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|BUNDLE",
            help="A study's id, a space's name, models:/name@alias, or a bundle.",
            autocompletion=study_names,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Directory to write; must not exist."),
    ],
    max_drop: Annotated[
        float,
        typer.Option(metavar="X", min=0, max=1, help="Accuracy on the validation split that it may cost."),
    ] = 0.01,
    epochs: Annotated[
        int, typer.Option(metavar="N", min=0, help="Train the smaller network on for so many epochs.")
    ] = 0,
    learning_rate: Annotated[float, typer.Option(metavar="X", help="Step size of that.")] = 0.005,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    allow_code: AllowCode = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Remove the neurons that are always off, always on, or in sync, and write the smaller network."""
    from aiq_search.app.slim import slim_champion
    from aiq_search.cli.output import print_json, print_message, print_rows

    slimmed = slim_champion(
        source,
        output,
        max_drop=max_drop,
        epochs=epochs,
        learning_rate=learning_rate,
        force=force,
        data_dir=data_dir,
        tracking_uri=tracking_uri,
        allow_code=allow_code or (),
    )
    rows = [{"": row.name, "before": row.before, "after": row.after} for row in slimmed.rows]
    if form is Format.JSON:
        numbers = {row.name: {"before": row.before, "after": row.after} for row in slimmed.rows}
        print_json({"bundle": str(output), "numbers": numbers, "sentences": list(slimmed.sentences)})
        return
    for sentence in slimmed.sentences:
        print_message(sentence)
    print_rows(rows, form, ["", "before", "after"])
