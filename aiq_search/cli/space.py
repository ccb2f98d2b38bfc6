"""``aiq space``: look at a search-space file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aiq_search.cli.options import Format, FormatOption

__all__ = ["app"]

app = typer.Typer(help="Check, show and sample a search-space file.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A search-space file.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Edit a field; repeatable."),
]


@app.command()
def check(file: File, set_: Set = None) -> None:
    """Say what is wrong with FILE, without running anything."""
    from aiq_search.app.space import checked_space
    from aiq_search.cli.output import stderr
    from aiq_search.search.samplers import constraints_note

    space = checked_space(file, set_ or [])
    typer.echo(f"{file}: a valid search space, {space.name}, of {len(space.parameters)} parameters.")
    note = constraints_note(space)
    if note is not None:
        stderr().print(note, markup=False)


@app.command()
def show(file: File, set_: Set = None, form: FormatOption = Format.TABLE) -> None:
    """Print the parameters of FILE and the number of configurations."""
    from aiq_search.app.space import checked_space, describe_parameters, size_sentence
    from aiq_search.cli.output import print_json, print_rows, stderr
    from aiq_search.space.points import space_size

    space = checked_space(file, set_ or [])
    if form is Format.JSON:
        print_json({**space.document(), "fingerprint": space.fingerprint, "size": str(space_size(space))})
        return
    print_rows(describe_parameters(space), form, ["parameter", "type", "range", "when"])
    stderr().print(size_sentence(space), markup=False)


@app.command()
def sample(
    file: File,
    number: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Fixes the draw.")] = 0,
    set_: Set = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Draw configurations from FILE at random."""
    from aiq_search.app.space import checked_space, draw
    from aiq_search.cli.output import print_rows

    space = checked_space(file, set_ or [])
    print_rows(draw(space, number, seed), form, list(space.parameters))


@app.command()
def schema() -> None:
    """Print the JSON Schema of search-space files, for editors."""
    from aiq_search.app.space import json_schema
    from aiq_search.cli.output import print_json

    document: dict[str, Any] = json_schema()
    print_json(document)
