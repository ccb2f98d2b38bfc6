"""What all commands have in common: ``-h``, help in words, and no ``Aborted.`` without Ctrl-D."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

__all__ = ["CommandLine"]


def _without_types(params: list[Any]) -> list[Any]:
    """Parameters without types in the help: flags take no value, and an argument's name is enough."""
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag and param.metavar is None:
            param.metavar = ""
        elif isinstance(param, TyperArgument):
            param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
    return params


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - click's, or that of Typer's own copy
        return _without_types(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        return _without_types(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except EOFError as error:  # at a question, Typer has made it an Abort by now
            raise RuntimeError("a file or a connection ended too soon") from error


class CommandLine(typer.Typer):
    """A group of commands.

    Args:
        help: What the group is for.
        options: Those of ``typer.Typer``.
    """

    def __init__(self, *, help: str, **options: Any) -> None:  # noqa: ANN401 - Typer's name
        super().__init__(
            cls=_Group,
            help=help,
            no_args_is_help=True,
            context_settings={"help_option_names": ["-h", "--help"]},
            **options,
        )

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:  # noqa: ANN401
        """Register a command; see ``typer.Typer.command``."""
        return super().command(name, cls=_Command, **options)
