"""docs/paper.md: a table of all claims, and a section with CSVs for each of which something is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.paper.claims import CLAIMS, Finding

__all__ = ["write_section"]

_HEAD = """# The paper's claims, trained again

Schaub and Hotaling, *Assessing Efficiency in Artificial Neural Networks*, Applied Sciences 13(18):10286,
2023. Each section is written by its command, and each of its numbers follows from the CSV that the command
writes beside it, with the versions and the git commit that made it. Networks and epochs are chosen on the
validation split; the test split is only reported. Numbers are means ± standard deviations over seeds, and
trainings that collapsed (a layer with zero entropy: aIQ 0) are counted. Verdicts: reproduced, partly, not
seen, contradicted, not run.

| claim | the paper | ours | verdict | command |
|---|---|---|---|---|
"""


_FEW = 3  # numbers of epochs that are named each


def write_section(document: Path, name: str, command: str, found: Finding, untouched: Sequence[str]) -> None:
    """Write a claim's CSVs and figure, its section in place of an older one, and its line in the table.

    Args:
        document: The Markdown file; CSVs and figure go to a folder of its name beside it.
        name: Of the claim.
        command: That makes the numbers.
        found: What the trainings show.
        untouched: Pieces of the claim of which nothing is trained.
    """
    folder = document.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    frames = {name: found.evidence.rows, f"{name}-measured": found.evidence.measured}
    for title, frame in frames.items():
        if frame is not None and len(frame):
            frame.to_csv(folder / f"{title}.csv", index=False, float_format="%.6g")
    (folder / f"{name}.svg").write_text(found.judgement.svg, encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{_section(name, command, found, untouched, folder)}\n{end}"
    text = document.read_text(encoding="utf-8") if document.exists() else _nothing_run()
    text = _between(begin, end).sub(lambda _: section, text)
    line = _line(name, found.judgement.short, found.judgement.verdict, command)
    text = re.sub(rf"^\| \[?{re.escape(found.claim.title)}\b.*$", lambda _: line, text, flags=re.MULTILINE)
    document.write_text(text, encoding="utf-8")


def _between(begin: str, end: str) -> re.Pattern[str]:
    return re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)


def _nothing_run() -> str:
    """The document before any claim was run."""
    lines = [_line(name, "", "not run", f"python -m benchmarks.paper {name}") for name in CLAIMS]
    places = [f"<!-- {name}: begin --><!-- {name}: end -->" for name in CLAIMS]
    return _HEAD + "\n".join(lines) + "\n\n" + "\n\n".join(places) + "\n"


def _line(name: str, ours: str, verdict: str, command: str) -> str:
    title = CLAIMS[name].title
    heading = title if verdict == "not run" else f"[{title}](#{re.sub(r'[^a-z0-9]+', '-', title.lower())})"
    return f"| {heading} | {CLAIMS[name].paper} | {ours} | {verdict} | `{command}` |"


def _section(name: str, command: str, found: Finding, untouched: Sequence[str], folder: Path) -> str:
    claim, judged = found.claim, found.judgement
    files = [
        path.name for path in sorted(folder.glob(f"{name}*.csv")) if path.stem in (name, f"{name}-measured")
    ]
    linked = " and ".join(f"[{file}]({folder.name}/{file})" for file in files)
    parts = [
        f"## {claim.title}",
        f"**The paper:** {claim.paper}",
        f"**Ours:** {judged.ours}",
        f"**Verdict: {judged.verdict}.** {claim.rule}".rstrip(),
        f"![{claim.title}]({folder.name}/{name}.svg)",
        f"*{judged.caption}*",
        *(f"{caption}:\n\n{_markdown(table)}" for caption, table in judged.tables.items()),
        f"```\n{command}\n```",
        f"{_trained(found, untouched)} Every number is in {linked}.",
    ]
    return "\n\n".join(parts)


def _trained(found: Finding, untouched: Sequence[str]) -> str:
    """What was trained and what was not."""
    rows = found.evidence.rows
    parts = []
    unfinished = bool(untouched)
    for name, (done, planned) in found.trained.items():
        failed = found.failed.get(name, 0)
        count = f"all {planned:,}" if done == planned else f"{done:,} of {planned:,}"
        parts.append(f"{name} {count}" + (f" ({failed:,} diverged)" if failed else ""))
        unfinished |= done + failed < planned
    missing = [f"Not run: {', '.join(untouched)}."] if untouched else []
    continued = ["The command continues what is missing."] if unfinished else []
    by_epoch = "epochs" not in rows
    epochs = sorted(set(rows.groupby("piece")["epoch"].max() if by_epoch else rows["epochs"]))
    few = len(epochs) <= _FEW
    recipe = f"Epochs: {', '.join(map(str, epochs)) if few else f'{epochs[0]} to {epochs[-1]}'}."
    return " ".join([f"Trainings: {'; '.join(parts)}.", recipe, *missing, *continued])


def _markdown(table: pd.DataFrame) -> str:
    def shown(value: object) -> str:
        if isinstance(value, float):
            return "" if pd.isna(value) else f"{value:.3g}" if abs(value) < 1 else f"{value:,.4g}"
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(map(shown, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)
