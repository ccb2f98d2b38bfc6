"""``aiq studies``, ``trials``, ``best`` and ``pareto``: look at studies."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiq_search.cli.options import Format, FormatOption, OptionalStudy, TrackingUri
from aiq_search.errors import NothingFeasibleError

if TYPE_CHECKING:
    from aiq_search.study import StudyView

__all__ = ["best", "pareto", "studies", "trials"]


class State(StrEnum):
    """``study.TrialState``, without the imports that it would cost every command."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"
    RUNNING = "RUNNING"


def studies(tracking_uri: TrackingUri = None, form: FormatOption = Format.TABLE) -> None:
    """List the studies in AIQ_HOME, the oldest first, then those that only MLflow has."""
    from aiq_search.app.look import study_rows
    from aiq_search.cli.output import print_message, print_rows

    rows = study_rows(tracking_uri)
    if form is Format.TABLE:
        for row in rows:
            if row["created"] is not None:
                row["created"] = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"]))
        if not rows:
            print_message("There is no study yet. Start one: aiq search digits")
            return
    columns = ["study", "status", "best_aiq", "trials", "complete", "pruned", "failed", "created"]
    print_rows(rows, form, columns)
    for row in rows:
        if row["error"]:
            print_message(row["error"])


def trials(
    study: OptionalStudy = None,
    trial: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Show trial N alone: configuration, curve, reason and traceback.", min=0
        ),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sort by a column, the best first.")
    ] = None,
    top: Annotated[int | None, typer.Option(metavar="N", help="Only the first N.", min=1)] = None,
    state: Annotated[
        State | None,
        typer.Option(metavar="STATE", case_sensitive=False, help="COMPLETE, PRUNED, FAIL or RUNNING."),
    ] = None,
    tracking_uri: TrackingUri = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the trials of STUDY, or show one of them."""
    from aiq_search.app.look import trials_of
    from aiq_search.app.trials import select_trials
    from aiq_search.cli.output import print_rows

    if trial is not None:
        _show_trial(study, trial, tracking_uri, form)
        return
    view, rows = trials_of(study, tracking_uri)
    rows = select_trials(rows, state=state, sort=sort, top=top)
    _print_which(view, study)
    columns = ["name", "state", "aiq", "accuracy", "efficiency", "parameters", *view.space.objective.costs]
    columns += ["configuration", "epochs"]
    columns += [sort] if sort is not None and sort not in columns else []
    columns += ["feasible"] if view.space.objective.constraints else []
    if any(row["reason"] for row in rows):
        columns.append("reason")
    if form is Format.TABLE:
        rows = [_for_people(row, view.space.parameters) for row in rows]
    print_rows(rows, form, columns)


def _print_which(study: StudyView, name: str | None) -> None:
    """Print which study is shown."""
    from aiq_search.cli.output import print_message

    print_message(f"study {study.id}{', the newest' if name is None else ''}")


def _show_trial(name: str | None, number: int, tracking_uri: str | None, form: Format) -> None:
    from aiq_search.app.trials import trial_document, trial_of
    from aiq_search.cli.output import configuration, print_json, print_line, print_rows, show, table

    study, record = trial_of(name, number, tracking_uri)
    _print_which(study, name)
    if form is Format.JSON:
        print_json(trial_document(study, record))
        return
    names = [n for n in ("aiq", "accuracy", "efficiency", "loss", "train_loss") if n in record.history]
    columns = [record.history[n] for n in names]
    curve = [[epoch, *numbers] for epoch, numbers in enumerate(zip(*columns, strict=True), start=1)]
    if form is Format.CSV:
        print_rows([dict(zip(("epoch", *names), row, strict=True)) for row in curve], form, ["epoch", *names])
        return
    print_line(f"{record.name}: {record.state}, seed {record.seed}")
    print_line(f"  {configuration(record.params, '  ')}")
    if curve:
        show("", table(["epoch", *names], curve))
    if record.epoch is not None:
        print_line(f"Its numbers are those of epoch {record.epoch}, of the lowest validation loss.")
    if record.engine_reason:
        print_line(f"Trained by {record.engine}: {record.engine_reason}.")
    if record.reason:
        print_line(f"Reason: {record.reason}")
    if record.traceback:
        print_line(record.traceback)


def _for_people(row: Mapping[str, Any], parameters: Iterable[str]) -> dict[str, Any]:
    """A row with whole numbers as such, and its configuration in one cell."""
    from aiq_search.cli.output import configuration
    from aiq_search.study.metrics import EXACT

    shown = {name: int(value) if name in EXACT else value for name, value in row.items()}
    return {**shown, "configuration": configuration({n: row[n] for n in parameters if n in row})}


def best(
    study: OptionalStudy = None, tracking_uri: TrackingUri = None, form: FormatOption = Format.TABLE
) -> None:
    """Show the champion of STUDY, why each finalist won or lost, and the most accurate trial."""
    from aiq_search.app.look import best_of
    from aiq_search.cli.champion import champion_view, finalists_view
    from aiq_search.cli.output import print_json, print_rows, show
    from aiq_search.study.chance import chance_problem

    choice = best_of(study, tracking_uri)
    view, champion, document = choice.study, choice.champion, choice.document()
    _print_which(view, study)
    if champion is None:
        if form is Format.TABLE and choice.verdicts:
            show(finalists_view(view.space, choice.verdicts))
        raise NothingFeasibleError(choice.reason)
    if form is Format.JSON:
        print_json(document)
    elif form is Format.CSV:
        flat = {name: value for name, value in document.items() if not isinstance(value, dict | list)}
        for split in ("validation", "test"):
            for name, spread in document["metrics"][split].items():
                flat |= {f"{split}/{name}/{part}": value for part, value in spread.items()}
        print_rows([flat | document["params"]], form, [])
    else:
        show(champion_view(view.document, champion, choice.comparison, choice.verdicts))
    problem = chance_problem(view.document, champion)
    if problem is not None:
        raise NothingFeasibleError(problem)


def pareto(
    study: OptionalStudy = None, tracking_uri: TrackingUri = None, form: FormatOption = Format.TABLE
) -> None:
    """Show the trials of STUDY that no other beats in every objective, and its champion."""
    from aiq_search.app.look import pareto_of
    from aiq_search.cli.output import print_json, print_message, print_rows

    view, front = pareto_of(study, tracking_uri)
    _print_which(view, study)
    if form is Format.JSON:
        print_json({"study": view.id, **front.document()})
        return
    rows = [{"name": r.name, "note": note, **r.metrics, **r.params} for r, note in front.rows()]
    names = list(dict.fromkeys([*(name for name, _ in front.directions), "aiq", "accuracy", "efficiency"]))
    columns = list(dict.fromkeys(["name", *names, "parameters", "note", "configuration"]))
    if form is Format.TABLE:
        rows = [_for_people(row, view.space.parameters) for row in rows]
    print_rows(rows, form, columns)
    objectives = " and ".join(f"{name} ({direction[:8]})" for name, direction in front.directions)
    reference = ", ".join(f"{number:g}" for number in front.reference)
    print_message(f"{objectives}: hypervolume {front.hypervolume:.4g} with reference point ({reference})")
