"""The report: one HTML file that explains a study, without a network."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.redaction import redact, redacted
from aiq_search.report import story
from aiq_search.report.figures import ChosenStudy, NetworkView, Picture, StudyFacts, build_figures
from aiq_search.report.words import typeset
from aiq_search.tracking.layout import question

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from aiq_search.tracking.listener import MlflowListener

__all__ = ["publish", "write_pictures", "write_report"]


def write_report(
    study: ChosenStudy,
    path: Path,
    view: NetworkView | None = None,
    findings: Sequence[str] = (),
) -> Path:
    """Write the report of a study.

    Args:
        study: The study.
        path: File to write; its folder is made.
        view: What only the networks can tell.
        findings: The doctor's sentences; those that the numbers themselves tell are added.

    Returns:
        ``path``.
    """
    facts = StudyFacts(study)
    _write_page(facts, build_figures(facts, view), path, findings)
    return path


def _write_page(facts: StudyFacts, pictures: Sequence[Picture], path: Path, findings: Sequence[str]) -> None:
    headline = story.headline(facts)
    page = _render(
        "report.html",
        title=f"{facts.space}: {headline}",
        facts=facts,
        pictures=pictures,
        date=time.strftime("%Y-%m-%d %H:%M", time.localtime(facts.document.get("created"))),
        question=typeset(question(facts.document)),
        story={"headline": headline, "sentences": story.sentences(facts)},
        tiles=story.tiles(facts),
        rows=story.comparison(facts),
        findings=[redact(f) for f in (*findings, *story.findings(facts))] or ["Nothing stands out."],
        commands=redact(story.commands(facts)),
        footer=redact(story.footer(facts)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def write_pictures(pictures: Sequence[Picture], folder: Path) -> list[Path]:
    """Write each picture as a page of its own that needs no network."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, picture in enumerate(pictures, start=1):
        path = folder / f"{number:02d}-{picture.name}.html"
        path.write_text(_render("page.html", title=picture.title, pictures=[picture]), encoding="utf-8")
        written.append(path)
    return written


def publish(
    study: ChosenStudy,
    listener: MlflowListener,
    view: NetworkView | None = None,
    findings: Sequence[str] = (),
) -> Path:
    """Write report, pictures and study.json, and have them kept with the study's run in MLflow.

    Args:
        study: The study.
        listener: Delivers to MLflow.
        view: See ``write_report``.
        findings: See ``write_report``.

    Returns:
        The report's path.
    """
    folder = listener.directory / "artifacts"
    path = folder / "report.html"
    facts = StudyFacts(study)
    pictures = build_figures(facts, view)
    _write_page(facts, pictures, path, findings)
    write_pictures(pictures, folder / "pictures")
    document = json.dumps(redacted(study.document), indent=2, default=str)
    (folder / "study.json").write_text(document + "\n", encoding="utf-8")
    listener.attach(study.id, folder)
    return path


def _render(template: str, **values: object) -> str:
    import jinja2
    from markupsafe import Markup

    room = jinja2.Environment(
        loader=jinja2.PackageLoader("aiq_search.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )

    def as_json(figure: go.Figure) -> Markup:
        # "</script>" inside a name would end the element.
        return Markup(str(figure.to_json()).replace("</", "<\\/"))  # noqa: S704 - JSON, and the line above

    fixed = {name: Markup(_asset(f"page.{name}")) for name in ("css", "js")}  # noqa: S704 - our own files
    return room.get_template(template).render(json=as_json, plotly=_plotly(), **fixed, **values)


def _asset(name: str) -> str:
    return files("aiq_search.report").joinpath("templates", name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> str:
    """Plotly's JavaScript, compressed, as text."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
