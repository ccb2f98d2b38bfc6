"""``aiq delete``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiq_search.cli.options import StudyArgument, TrackingUri

__all__ = ["delete"]


def delete(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Leave its runs in MLflow.")] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Remove STUDY: its folder with all checkpoints, its trials, and its runs in MLflow."""
    from aiq_search.app.delete import delete_study, what_goes
    from aiq_search.cli.output import stderr
    from aiq_search.errors import InputError
    from aiq_search.redaction import redact

    plan = what_goes(study, tracking_uri=tracking_uri)
    console = stderr()
    runs = "" if keep_runs or plan.tracking_uri is None else f", and its runs in {redact(plan.tracking_uri)}"
    said = f"study {plan.study}: {plan.trials} trials, {plan.bytes / 1e6:.1f} MB in {plan.folder}{runs}"
    if not yes:
        console.print(f"This removes {said}.", markup=False, soft_wrap=True)
        try:
            agreed = typer.confirm("Remove it?", err=True)
        except typer.Abort:
            raise InputError(
                "nobody answered, so nothing was removed; --yes removes without asking."
            ) from None
        if not agreed:
            console.print("Nothing was removed.")
            raise typer.Exit(1)
    done = delete_study(plan.study, keep_runs=keep_runs, tracking_uri=tracking_uri)
    console.print(f"Removed study {done.study} and {done.runs} runs.", markup=False)
    if done.runs:
        console.print("MLflow keeps deleted runs until `mlflow gc`; models it has registered stay.")
