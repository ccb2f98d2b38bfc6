"""The reports: one HTML file that explains a study, or compares several, and opens offline."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.redaction import redact
from aiq_search.report import side_by_side, story
from aiq_search.report.figures import NetworkView, Picture, StudyFacts, build_comparison, build_figures
from aiq_search.report.samples import DataSamples
from aiq_search.study.description import question
from aiq_search.study.finalist_rows import finalist_rows
from aiq_search.words import typeset

if TYPE_CHECKING:
    from aiq_search.study import StudyView

__all__ = ["write_comparison", "write_report"]


def write_report(
    study: StudyView,
    path: Path,
    view: NetworkView | None = None,
    findings: Sequence[str] = (),
    *,
    samples: DataSamples | None = None,
    pictures: Path | None = None,
) -> Path:
    """Write the report of a study.

    Args:
        study: The study.
        path: File to write; its folder is made.
        view: What only the networks can show.
        findings: The doctor's sentences; those that the numbers themselves suggest are added.
        samples: What is shown of the data; None where they are not here.
        pictures: Folder for the data of each picture, as plotly's JSON; None for none.

    Returns:
        ``path``.
    """
    facts = StudyFacts(study)
    drawn = build_figures(facts, view)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = view.demonstration if view else None
    path.write_text(_page(facts, drawn, findings, shown, samples), encoding="utf-8")
    if pictures is not None:
        _write_pictures(drawn, pictures)
    return path


def write_comparison(studies: Sequence[StudyView], path: Path) -> Path:
    """Write the report that shows several studies side by side.

    Args:
        studies: Two or more, each with a complete trial.
        path: File to write; its folder is made.

    Returns:
        ``path``.
    """
    facts = [StudyFacts(study) for study in studies]
    pictures, volumes = build_comparison(facts)
    headline = f"{len(facts)} studies side by side"
    page = _render(
        "comparison.html",
        title=f"{headline}: {', '.join(each.id for each in facts)}",
        headline=headline,
        date=time.strftime("%Y-%m-%d %H:%M"),
        sentences=[*side_by_side.verdicts(facts), *side_by_side.notes(facts)],
        champions=side_by_side.champions(facts),
        pictures=pictures,
        costs=side_by_side.costs(facts, volumes),
        settings=side_by_side.settings(facts),
        footer="",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _page(
    facts: StudyFacts,
    pictures: Sequence[Picture],
    findings: Sequence[str],
    demonstration: Mapping[str, Any] | None,
    samples: DataSamples | None,
) -> str:
    headline = story.headline(facts)
    return _render(
        "report.html",
        title=f"{facts.space}: {headline}",
        facts=facts,
        pictures=pictures,
        demonstration=demonstration,
        samples=samples,
        date=time.strftime("%Y-%m-%d %H:%M", time.localtime(facts.document.created)),
        question=typeset(question(facts.document)),
        story={"headline": headline, "sentences": story.sentences(facts)},
        tiles=story.tiles(facts),
        rows=story.comparison(facts),
        finalists=finalist_rows(facts.options, facts.verdicts),
        findings=[redact(f) for f in (*findings, *story.findings(facts))] or ["Nothing unusual was found."],
        commands=redact(story.commands(facts)),
        footer=redact(story.footer(facts)),
    )


def _write_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Write the data of each picture: ``plotly.io.read_json`` opens it, to draw it another way."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, start=1):
        path = folder / f"{number:02d}-{picture.name}.json"
        path.write_text(str(picture.figure.to_json()), encoding="utf-8")


def _render(template: str, **values: object) -> str:
    import jinja2
    from markupsafe import Markup

    room = jinja2.Environment(
        loader=jinja2.PackageLoader("aiq_search.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def marked(text: str) -> Markup:
        # "</script>" inside a name would end the element, and "<!--" may keep it from ending.
        return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - JSON, and the line above

    fixed = {name: Markup(_asset(f"report.{name}")) for name in ("css", "js")}  # noqa: S704 - our own files
    fixed |= {f"{name}_js": Markup(_asset(f"{name}.js")) for name in ("network", "champion")}  # noqa: S704
    return room.get_template(template).render(
        json=lambda figure: marked(str(figure.to_json())),
        as_json=lambda document: marked(json.dumps(document, separators=(",", ":"))),
        plotly=_plotly(),
        plotly_notice=_plotly_notice(),
        **fixed,
        **values,
    )


def _asset(name: str) -> str:
    return files("aiq_search.report").joinpath("templates", name).read_text(encoding="utf-8")


def _plotly_notice() -> str:
    """What plotly's JavaScript says about itself: its version, its copyright and its licence."""
    from plotly.offline import get_plotlyjs

    notice = get_plotlyjs().removeprefix("/**").partition("*/")[0]
    return ". ".join(line.strip(" *.") for line in notice.strip().splitlines()) + "."


@functools.cache
def _plotly() -> str:
    """Plotly's JavaScript, compressed, as text."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
