"""docs/paper.md: a section for each claim that was run, its numbers in a CSV beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from benchmarks.paper.claims import Claim
from benchmarks.paper.verdicts import Judgement

__all__ = ["write_section"]

_HEAD = """# The paper's claims, trained again

Schaub and Hotaling, *Assessing Efficiency in Artificial Neural Networks*, Applied Sciences 13(18):10286,
2023. Each section is written by its command, and each of its numbers follows from the CSV that the command
writes beside it, with the versions and the git commit that made it. Verdicts: reproduced, partly, not seen,
contradicted.
"""


def write_section(
    document: Path, name: str, claim: Claim, command: str, rows: pd.DataFrame, found: Judgement
) -> None:
    """Write a claim's CSV and figure, and its section of the document in place of an older one.

    Args:
        document: The Markdown file; CSV and figure go to a folder of its name beside it.
        name: Of the claim.
        claim: The claim.
        command: That makes the numbers.
        rows: Every training, or every epoch of each.
        found: What they show.
    """
    folder = document.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / f"{name}.csv", index=False)
    (folder / f"{name}.svg").write_text(found.svg, encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{_section(name, claim, command, rows, found, folder.name)}\n{end}"
    text = document.read_text(encoding="utf-8") if document.exists() else _HEAD
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        text = f"{text.rstrip()}\n\n{begin}{end}\n"
    document.write_text(pattern.sub(lambda _: section, text), encoding="utf-8")


def _section(name: str, claim: Claim, command: str, rows: pd.DataFrame, found: Judgement, folder: str) -> str:
    parts = [
        f"## {claim.title}",
        f"**The paper:** {claim.paper}",
        f"**Ours:** {found.ours}",
        f"**Verdict: {found.verdict}.**",
        f"![{claim.title}]({folder}/{name}.svg)",
        f"*{found.caption}*",
        *(f"{caption}:\n\n{_markdown(table)}" for caption, table in found.tables.items()),
        f"```\n{command}\n```",
        f"{rows['seed'].nunique()} seeds; every number is in [{name}.csv]({folder}/{name}.csv).",
    ]
    return "\n\n".join(parts)


def _markdown(table: pd.DataFrame) -> str:
    def shown(value: object) -> str:
        return (
            f"{value:.4g}"
            if isinstance(value, float)
            else f"{value:,}"
            if isinstance(value, int)
            else str(value)
        )

    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(map(shown, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)
