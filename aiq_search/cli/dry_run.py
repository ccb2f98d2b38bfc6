"""``aiq search --dry-run``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiq_search.cli.options import Format

__all__ = ["print_dry_run"]


def print_dry_run(
    file: Path, overrides: Sequence[str], trials: int | None, data_dir: Path | None, form: Format
) -> None:
    """Print what the search would take."""
    from aiq_search.app.dry_run import dry_run
    from aiq_search.cli.output import print_json, stdout, table

    found = dry_run(file, overrides, trials, data_dir)
    if form is not Format.TABLE:
        print_json(found.document())
        return
    rows = []
    for name, probe in (("narrowest", found.narrowest), ("widest", found.widest)):
        said = "  ".join(
            f"{k.partition('.')[2]}={v}" for k, v in probe.params.items() if k.startswith("model.")
        )
        rows.append([name, said, probe.parameters, probe.macs, probe.epoch_seconds])
    console = stdout()
    console.print(table(["network", "configuration", "parameters", "MACs", "seconds an epoch"], rows))
    size = "infinitely many" if found.size is None else f"{found.size:,}"
    size = size if found.size_exact else f"at most {size}"
    console.print(
        f"  {found.name}: {size} configurations; {found.trials:,} trainings, {found.concurrency} at once"
    )
    low, high = (_time(hours) for hours in found.hours)
    console.print(f"  time: {low} to {high}, less what the pruner saves, and half a minute to start")
    low, high = (f"{size / 1e6:,.0f} MB" for size in found.disk_bytes)
    console.print(f"  disk: {low} to {high}")


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.1f} h"
