"""``aiq doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiq_search.cli.options import Format, FormatOption, TrackingUri

__all__ = ["doctor"]


def doctor(
    study: Annotated[
        str | None,
        typer.Argument(help="Look at this study too: its id, or a space's name.", show_default=False),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Set right what needs no decision (names a STUDY).")
    ] = False,
    tracking_uri: TrackingUri = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what is wrong and what to do: the environment, STUDY, and the search itself.

    Exits with 1 if there is a problem.
    """
    from aiq_search.app.doctor import Level, examine, fix_study
    from aiq_search.cli.output import print_rows, stderr
    from aiq_search.errors import InputError
    from aiq_search.study import Study
    from aiq_search.study.home import aiq_home

    if fix:
        if study is None:
            raise InputError("--fix sets a study right: name it, as in aiq doctor STUDY --fix.")
        for done in fix_study(Study.find(aiq_home(), study), tracking_uri):
            stderr().print(done, markup=False, soft_wrap=True)
    findings = examine(study, tracking_uri=tracking_uri)
    rows = [finding.document() for finding in findings]
    print_rows(rows, form, ["area", "level", "what", "remedy"])
    # What --fix should have set right and is still there is a problem too.
    if any(finding.level is Level.PROBLEM or (fix and finding.fixable) for finding in findings):
        raise typer.Exit(1)
