"""``aiq studies``, ``trials``, ``best`` and ``pareto``: look at what is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiq_search.cli.options import Format, FormatOption, StudyArgument, TrackingUri

__all__ = ["best", "pareto", "studies", "trials"]


def studies(tracking_uri: TrackingUri = None, form: FormatOption = Format.TABLE) -> None:
    """List the studies in AIQ_HOME, the oldest first, then those that only MLflow has."""
    from aiq_search.app.look import describe_study
    from aiq_search.app.remote import all_studies
    from aiq_search.cli.output import print_rows, stderr
    from aiq_search.study.home import aiq_home

    rows: list[dict[str, Any]] = []
    for study in all_studies(tracking_uri):
        row = describe_study(study)
        if form is Format.TABLE and row["created"] is not None:
            row["created"] = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"]))
        rows.append(row)
    if not rows and form is Format.TABLE:
        stderr().print(f"No study in {aiq_home()} yet. Start one: aiq search search_spaces/digits.yaml")
        return
    columns = ["study", "status", "best_aiq", "trials", "complete", "pruned", "failed", "created"]
    print_rows(rows, form, columns)


def trials(study: StudyArgument, tracking_uri: TrackingUri = None, form: FormatOption = Format.TABLE) -> None:
    """List the trials of STUDY."""
    from aiq_search.app.look import trial_rows
    from aiq_search.app.remote import find_any
    from aiq_search.cli.output import print_rows, stderr

    found = find_any(study, tracking_uri)
    stderr().print(f"study {found.id}", markup=False)
    rows = trial_rows(found)
    columns = ["name", "state", "aiq", "accuracy", "efficiency", "parameters", "configuration", "epochs"]
    columns += ["feasible"] if found.space.objective.constraints else []
    if any(row["reason"] for row in rows):
        columns.append("reason")
    if form is Format.TABLE:
        rows = [_for_people(row, found.space.parameters) for row in rows]
    print_rows(rows, form, columns)


def _for_people(row: Mapping[str, Any], parameters: Iterable[str]) -> dict[str, Any]:
    """A row with whole numbers as such, and its configuration in one cell."""
    from aiq_search.cli.output import configuration

    shown = {name: int(v) if name in ("parameters", "macs") else v for name, v in row.items()}
    return {**shown, "configuration": configuration({n: row[n] for n in parameters if n in row})}


def best(study: StudyArgument, tracking_uri: TrackingUri = None, form: FormatOption = Format.TABLE) -> None:
    """Show the champion of STUDY, with the most accurate trial beside it."""
    from aiq_search.app.remote import find_any
    from aiq_search.cli.champion import champion_view
    from aiq_search.cli.output import print_json, print_rows, stderr, stdout
    from aiq_search.study import most_accurate

    found = find_any(study, tracking_uri)
    champion = found.champion()
    if form is Format.JSON:
        print_json(champion.document())
        return
    if form is Format.CSV:
        document = champion.document()
        flat = {k: v for k, v in document.items() if not isinstance(v, dict)}
        for split in ("validation", "test"):
            for name, spread in document["metrics"][split].items():
                flat |= {f"{split}/{name}/{part}": value for part, value in spread.items()}
        print_rows([flat | document["params"]], form, [])
        return
    stderr().print(f"study {found.id}", markup=False)
    stdout().print(champion_view(champion, most_accurate(found.records())))


def pareto(study: StudyArgument, tracking_uri: TrackingUri = None, form: FormatOption = Format.TABLE) -> None:
    """Show the trials of STUDY that no other beats in every objective, and their hypervolume."""
    from aiq_search.app.pareto import front_document, front_of
    from aiq_search.app.remote import find_any
    from aiq_search.cli.output import print_json, print_rows, stderr

    found = find_any(study, tracking_uri)
    front = front_of(found)
    if form is Format.JSON:
        print_json(front_document(found, front))
        return
    rows = [{"name": r.name, **r.metrics, **r.params} for r in front.records]
    names = list(dict.fromkeys([*(name for name, _ in front.directions), "aiq", "accuracy", "efficiency"]))
    columns = list(dict.fromkeys(["name", *names, "parameters", "configuration"]))
    if form is Format.TABLE:
        rows = [_for_people(row, found.space.parameters) for row in rows]
    stderr().print(f"study {found.id}", markup=False)
    print_rows(rows, form, columns)
    said = " and ".join(f"{name} ({direction[:8]})" for name, direction in front.directions)
    reference = ", ".join(f"{number:g}" for number in front.reference)
    stderr().print(f"{said}: hypervolume {front.hypervolume:.4g} from ({reference})", markup=False)
