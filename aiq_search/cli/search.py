"""``aiq search``, ``aiq resume`` and ``aiq retry``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiq_search.cli.options import (
    Address,
    AllowCode,
    DataDir,
    Format,
    FormatOption,
    SetOption,
    SharedStorage,
    SpaceFile,
    StudyArgument,
    StudyId,
    StudyStorage,
    TrackingUri,
    Trials,
    WarmStart,
)

if TYPE_CHECKING:
    from aiq_search.app.result import SearchResult
    from aiq_search.study import Champion

__all__ = ["resume", "retry", "search"]


def search(
    file: SpaceFile,
    trials: Trials = None,
    set_: SetOption = None,
    study: StudyId = None,
    study_storage: StudyStorage = None,
    storage: SharedStorage = None,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    address: Address = None,
    warm_start: WarmStart = None,
    allow_code: AllowCode = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate size, time and disk space; nothing is searched.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Search the space in FILE: explore, confirm the finalists on fresh seeds, choose the champion."""
    from aiq_search.app.options import RunOptions

    options = RunOptions(
        overrides=set_ or (),
        trials=trials,
        study_id=study,
        study_storage=study_storage,
        storage=storage,
        tracking_uri=tracking_uri,
        data_dir=data_dir,
        address=address,
        warm_start=warm_start or (),
        allow_code=allow_code or (),
    )
    if dry_run:
        from aiq_search.cli.dry_run import print_dry_run

        print_dry_run(file, options, form)
        return
    from aiq_search.app.run import run_search

    _finish(partial(run_search, file, options, progress=True), form)


def resume(
    context: typer.Context,
    study: StudyArgument,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its file; refused where that searches another space."),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="If it continues on a cluster, show its log until it ends."),
    ] = False,
    trials: Trials = None,
    study_storage: StudyStorage = None,
    storage: SharedStorage = None,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    address: Address = None,
    allow_code: AllowCode = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Continue STUDY: finished trials are kept, interrupted ones continue from their checkpoints.

    A study that was submitted to a cluster continues there; it takes --trials and --data-dir only.
    """
    from aiq_search.app.options import RunOptions
    from aiq_search.app.run import resume_search
    from aiq_search.cli.jobs import resume_on_cluster

    options = RunOptions(
        trials=trials,
        study_storage=study_storage,
        storage=storage,
        tracking_uri=tracking_uri,
        data_dir=data_dir,
        address=address,
        allow_code=allow_code or (),
    )
    if not resume_on_cluster(context, study, options, follow):
        _finish(partial(resume_search, study, options, source=file, progress=True), form)


def retry(
    study: StudyArgument,
    storage: SharedStorage = None,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    address: Address = None,
    allow_code: AllowCode = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run the failed trials of STUDY again, and continue with whatever else is left to train."""
    from aiq_search.app.edit import retry_failed
    from aiq_search.app.options import RunOptions

    options = RunOptions(
        storage=storage,
        tracking_uri=tracking_uri,
        data_dir=data_dir,
        address=address,
        allow_code=allow_code or (),
    )
    _finish(partial(retry_failed, study, options, progress=True), form)


def _finish(run: Callable[..., SearchResult], form: Format) -> None:
    """Show what a search found as soon as that is known, and end with its exit code."""
    from aiq_search.app.result import failure_of
    from aiq_search.cli.output import print_message

    shown: list[str] = []
    champions: list[Champion | None] = []

    def announce(result: SearchResult) -> None:
        for note in result.notes[len(shown) :]:
            print_message(note)
        shown[:] = result.notes
        _show(result, form, known=bool(champions))
        champions.append(result.champion)

    result = run(announce=announce)
    for note in result.notes[len(shown) :]:
        print_message(note)
    if result.undelivered:
        print_message(result.undelivered)
    if result.champion is not None and form is not Format.JSON:
        _show_commands(result.study.id)
    failure = failure_of(result)
    if failure is not None:
        raise failure
    if result.signal is not None:
        print_message(f"Stopped. Continue with: aiq resume {result.study.id}")
        raise typer.Exit(128 + result.signal)


def _show(result: SearchResult, form: Format, *, known: bool) -> None:
    """The champion, if there is one; only what it is compared with, where it was shown before."""
    from aiq_search.app.look import Choice
    from aiq_search.cli.champion import champion_view, comparison_view
    from aiq_search.cli.output import print_json, show
    from aiq_search.study.finalists import verdicts_of

    if result.champion is None:
        return
    if form is Format.JSON:
        if result.final:
            print_json(Choice.of(result.study).document())
        return
    comparison = result.comparison
    if not known:
        verdicts = verdicts_of(result.study)
        document = result.study.document
        show(champion_view(document, result.champion, comparison, verdicts, final=result.final))
    elif comparison is not None:
        show("", comparison_view(comparison, known=True))


def _show_commands(name: str) -> None:
    """The commands to look further, with the study's id: another may be the newest of its space."""
    from aiq_search.cli.output import print_message, stderr

    commands = {
        f"aiq trials {name}": "list the trials",
        f"aiq report {name}": "write an HTML report",
        f"aiq ui {name}": "browse the runs in MLflow",
        f"aiq export {name} --output champion/": "export the champion",
    }
    width = max(map(len, commands))
    below = 5 + width + max(map(len, commands.values())) > stderr().width
    print_message("")
    for command, purpose in commands.items():
        print_message(f"  {command}\n      {purpose}" if below else f"  {command:<{width}}   {purpose}")
