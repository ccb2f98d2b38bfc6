"""``aiq delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aiq_search.cli.options import StudyArgument, TrackingUri

if TYPE_CHECKING:
    from aiq_search.app.edit import Removal

__all__ = ["delete"]


def delete(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep its runs in MLflow.")] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Remove STUDY: its folder with all checkpoints, its trials, and its runs in MLflow."""
    from aiq_search.app.edit import delete_study
    from aiq_search.cli.output import print_message

    agree = (lambda plan: True) if yes else _agrees
    removal = delete_study(study, agree=agree, keep_runs=keep_runs, tracking_uri=tracking_uri)
    if not removal.done:
        print_message("Nothing was removed.")
        raise typer.Exit(1)
    print_message(f"Removed study {removal.study} and {_counted(removal.runs, 'run')}.")
    if removal.runs:
        print_message("MLflow keeps deleted runs until `mlflow gc`; registered models are kept.")


def _agrees(plan: Removal) -> bool:
    from aiq_search.cli.output import ask, print_message
    from aiq_search.errors import InputError
    from aiq_search.redaction import redact

    runs = "" if plan.tracking_uri is None else f", and its runs in {redact(plan.tracking_uri)}"
    trials, size = _counted(plan.trials, "trial"), f"{plan.bytes / 1e6:.1f} MB"
    print_message(f"This removes study {plan.study}: {trials}, {size} in {plan.folder}{runs}.")
    agreed = ask("Remove it?")
    if agreed is None:
        raise InputError("no confirmation, nothing was removed; --yes removes without asking.")
    return agreed


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
