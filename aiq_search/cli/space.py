"""``aiq space``: look at a search-space file."""

from __future__ import annotations

from typing import Annotated

import typer

from aiq_search.cli.options import AllowCode, DataDir, Format, FormatOption, SetOption, SpaceFile
from aiq_search.cli.typer_app import CommandLine

__all__ = ["app"]

app = CommandLine(help="Check, show and sample a search-space file.")


@app.command()
def check(
    file: SpaceFile,
    set_: SetOption = None,
    data: Annotated[
        bool,
        typer.Option(
            "--data",
            help="Load its data, import its code, and train its narrowest and widest network for one step.",
        ),
    ] = False,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
) -> None:
    """Report what is wrong with FILE. Without --data, nothing that it names is imported or run."""
    from aiq_search.app.options import RunOptions
    from aiq_search.app.space import checked_space, tried_space
    from aiq_search.cli.output import print_line, print_message

    if data:
        options = RunOptions(overrides=set_ or (), data_dir=data_dir, allow_code=allow_code or ())
        checked = tried_space(file, options)
    else:
        checked = checked_space(file, set_ or [])
    print_line(f"{file}: valid. {checked.summary}")
    for note in checked.notes:
        print_message(note)


@app.command()
def show(file: SpaceFile, set_: SetOption = None, form: FormatOption = Format.TABLE) -> None:
    """Print the parameters of FILE and the number of configurations."""
    from aiq_search.app.space import checked_space
    from aiq_search.cli.output import print_json, print_message, print_rows

    checked = checked_space(file, set_ or [])
    if form is Format.JSON:
        print_json(checked.document())
        return
    print_rows(checked.parameter_rows(), form, ["parameter", "type", "range", "when"])
    print_message(checked.size_sentence)


@app.command()
def sample(
    file: SpaceFile,
    number: Annotated[int, typer.Option("-n", min=1, metavar="N", help="Number of configurations.")] = 5,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Makes the sample reproducible.")] = 0,
    set_: SetOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Sample configurations from FILE at random."""
    from aiq_search.app.space import checked_space
    from aiq_search.cli.output import print_rows

    checked = checked_space(file, set_ or [])
    print_rows(checked.sample(number, seed), form, list(checked.space.parameters))


@app.command()
def schema() -> None:
    """Print the JSON Schema of search-space files, for editors."""
    from aiq_search.app.space import json_schema
    from aiq_search.cli.output import print_json

    print_json(json_schema())
