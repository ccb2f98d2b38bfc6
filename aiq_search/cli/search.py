"""``aiq search`` and ``aiq resume``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiq_search.cli.options import (
    Address,
    DataDir,
    Format,
    FormatOption,
    SharedStorage,
    StudyArgument,
    StudyStorage,
    TrackingUri,
    Trials,
)

if TYPE_CHECKING:
    from aiq_search.app.search import SearchResult
    from aiq_search.study import StudyListener

__all__ = ["resume", "run_with_view", "search"]


def search(
    file: Annotated[Path, typer.Argument(help="A search-space file, such as search_spaces/digits.yaml.")],
    trials: Trials = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Edit a field, such as search.seed=1; repeatable."),
    ] = None,
    study: Annotated[str | None, typer.Option(help="The study's id.", show_default=False)] = None,
    study_storage: StudyStorage = None,
    storage: SharedStorage = None,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    address: Address = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            help="An earlier study of the same space to learn from; repeatable.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Size, speed and disk of the search; nothing is searched.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Search the space in FILE: explore, confirm the finalists on fresh seeds, name the champion."""
    from aiq_search.app.search import run_search

    if dry_run:
        from aiq_search.cli.dry_run import print_dry_run

        print_dry_run(file, set_ or [], trials, data_dir, form)
        return
    run_with_view(
        lambda listener: run_search(
            file,
            overrides=set_ or [],
            trials=trials,
            study_id=study,
            study_storage=study_storage,
            storage=storage,
            tracking_uri=tracking_uri,
            data_dir=data_dir,
            address=address,
            warm_start=warm_start or [],
            listeners=[listener],
        ),
        form,
    )


def resume(
    context: typer.Context,
    study: StudyArgument,
    file: Annotated[
        Path | None, typer.Option(help="The file again; refused where it searches something else.")
    ] = None,
    trials: Trials = None,
    study_storage: StudyStorage = None,
    storage: SharedStorage = None,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    address: Address = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Continue STUDY where it stands: finished trials are kept, interrupted ones go on.

    A study that was submitted to a cluster goes on there, with --trials and --data-dir alone.
    """
    from aiq_search.app.jobs import is_submitted
    from aiq_search.app.search import resume_search
    from aiq_search.cli.jobs import given, resume_on_cluster

    local = given(context, "file", "study_storage", "storage", "tracking_uri", "address")
    submitted = is_submitted(study, take_over="--study-storage" in local)
    if submitted is not None:
        resume_on_cluster(submitted, trials, data_dir, unfit=local)
        return

    run_with_view(
        lambda listener: resume_search(
            study,
            source=file,
            trials=trials,
            study_storage=study_storage,
            storage=storage,
            tracking_uri=tracking_uri,
            data_dir=data_dir,
            address=address,
            listeners=[listener],
        ),
        form,
    )


def run_with_view(start: Callable[[StudyListener], SearchResult], form: Format) -> None:
    """Run a study with a view, then show what it brought."""
    from aiq_search.app.search import failure_of
    from aiq_search.cli.output import print_json, stderr
    from aiq_search.cli.view import search_view

    console = stderr()
    with search_view(console) as view:
        result = start(view)
    for note in result.notes:
        console.print(note, markup=False)
    if result.undelivered:
        console.print(str(result.undelivered), markup=False)
    failure = failure_of(result)
    if failure is not None:
        raise failure
    if result.champion is not None:
        if form is Format.JSON:
            print_json(result.champion.document())
        else:
            _show(result)
    if result.signal is not None:
        console.print(f"Stopped. Go on with: aiq resume {result.study.id}", markup=False)
        raise typer.Exit(128 + result.signal)


def _show(result: SearchResult) -> None:
    """The champion, and the commands to look further."""
    from aiq_search.cli.champion import champion_view
    from aiq_search.cli.output import stderr, stdout
    from aiq_search.study import most_accurate

    if result.champion is None:
        return
    stdout().print(champion_view(result.champion, most_accurate(result.records)))
    console = stderr()
    console.print()
    name = result.study.id  # of its space another study may be the newest
    commands = {
        f"aiq trials {name}": "every trial",
        f"aiq report {name}": "pictures and findings, as one HTML file",
        f"aiq ui {name}": "browse the runs in MLflow",
        f"aiq export {name} --output champion/": "take the champion home",
    }
    width = max(map(len, commands))
    for command, purpose in commands.items():
        console.print(f"  {command:<{width}}   {purpose}", markup=False, soft_wrap=True)
