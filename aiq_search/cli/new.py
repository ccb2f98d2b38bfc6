"""``aiq new``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aiq_search.cli.completion import space_names
from aiq_search.cli.options import AllowCode

__all__ = ["new"]


def new(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The network: mlp, lenet_5, cnn, …, or your own as package.module:function; by default one "
            "that fits the data.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The data: digits, mnist, …, the path of a table, an .npz or a folder/ of pictures, or your "
            "own as package.module:function; by default digits.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Of a table: the column with the classes.", show_default=False),
    ] = None,
    copy: Annotated[
        str | None,
        typer.Option(
            "--copy",
            metavar="SPACE",
            help="Copy a shipped space, such as digits, in place of writing one.",
            autocompletion=space_names,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write; by default named after both.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    allow_code: AllowCode = None,
) -> None:
    """Write a commented search-space file for your data; on a terminal, ask for what is left out."""
    from aiq_search.app.new import copy_space, look_at_data, suggested_file, write_space
    from aiq_search.cli.output import print_line, print_message
    from aiq_search.errors import InputError
    from aiq_search.user_code import CodePolicy

    if copy is not None:
        if (model, data, target) != (None, None, None):
            raise InputError("--copy takes a space as it is: leave out --model, --data and --target.")
        path = output or Path(f"my-{Path(copy).stem}.yaml")
        copy_space(copy, path, force=force)
    else:
        code = CodePolicy.for_running(allow_code or ())
        data = data or _asked("Data (a name, or the path of a table, an .npz or a folder/)", "digits")
        facts = look_at_data(data, target or _asked_target(data), code)
        print_message(f"{data}: {facts.sentence}")
        model = model or _asked("Network", facts.model)
        path = output or suggested_file(data, model)
        write_space(path, model, facts, force=force, code=code)
    print_line(f"Wrote {path}.")
    print_message(f"Change it as you like, then: aiq search {path}   (--dry-run first: how long it takes)")


def _asked_target(data: str) -> str | None:
    """The column with the classes; None if the data have no columns, or nobody can be asked."""
    from aiq_search.app.new import columns_of
    from aiq_search.cli.output import print_message

    if not _somebody_there() or not (columns := columns_of(data)):
        return None
    print_message(f"Columns: {', '.join(columns)}")
    return _asked("Column with the classes", columns[-1])


def _asked(question: str, default: str) -> str:
    """The answer to a question; the default where nobody can be asked."""
    if not _somebody_there():
        return default
    return str(typer.prompt(question, default=default, err=True)).strip()


def _somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
