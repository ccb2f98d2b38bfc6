"""``aiq search --dry-run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.cli.options import Format
from aiq_search.words import duration

if TYPE_CHECKING:
    from aiq_search.app.options import RunOptions

__all__ = ["print_dry_run"]


def print_dry_run(file: Path, options: RunOptions, form: Format) -> None:
    """Print what the search would take."""
    from aiq_search.app.dry_run import dry_run
    from aiq_search.cli.output import configuration, print_json, show, table

    estimate = dry_run(file, options, agree=_agrees)
    if form is not Format.TABLE:
        print_json(estimate.document())
        return
    rows = []
    for name, probe in (("narrowest", estimate.narrowest), ("widest", estimate.widest)):
        widths = {name: value for name, value in probe.params.items() if name.startswith("model.")}
        rows.append([name, configuration(widths, "  "), probe.parameters, probe.macs, probe.epoch_seconds])
    columns = ["network", "configuration", "parameters", "MACs", "seconds per epoch"]
    size = "infinitely many" if estimate.size is None else f"{estimate.size:,}"
    size = size if estimate.size_exact else f"at most {size}"
    expected, low, high = (duration(3600 * hours) for hours in (estimate.expected_hours, *estimate.hours))
    small, large = (f"{size / 1e6:,.0f} MB" for size in estimate.disk_bytes)
    behind = f", then up to {estimate.reference} for the reference network" if estimate.reference else ""
    show(
        "",
        table(columns, rows),
        f"  {estimate.name}: {size} configurations; about {estimate.trials:,} to be trained{behind}, "
        f"{estimate.concurrency} at a time",
        f"  time: about {expected} ({low} to {high}), from the command to its end",
        f"  disk: {small} to {large}",
    )


def _agrees(names: list[str]) -> bool:
    """Ask whether code that a file names may run; without a terminal there is no agreement."""
    from aiq_search.cli.output import ask, print_message

    print_message(f"A dry run imports and runs code that the file names: {', '.join(names)}.")
    return bool(ask("Run it?"))
