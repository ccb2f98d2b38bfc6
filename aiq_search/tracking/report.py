"""The report: one HTML file that explains a study, without a network."""

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

from aiq_search.tracking import story
from aiq_search.tracking.figures import ChampionView, Picture, StudyFacts, build_figures
from aiq_search.tracking.layout import question
from aiq_search.tracking.uri import redact

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from aiq_search.tracking.listener import MlflowListener
    from aiq_search.tracking.reconcile import RecordedStudy

__all__ = ["publish", "write_pictures", "write_report"]


def write_report(
    study: RecordedStudy,
    path: Path,
    champion: Mapping[str, Any] | None = None,
    view: ChampionView | None = None,
    findings: Sequence[str] = (),
) -> Path:
    """Write the report of a study.

    Args:
        study: The study.
        path: File to write; its folder is made.
        champion: The document of ``aiq best --format json``, absent where nothing is feasible.
        view: What only the champion's network can tell.
        findings: The doctor's sentences; those that the numbers themselves tell are added.

    Returns:
        ``path``.
    """
    facts = StudyFacts(study, champion["trial"] if champion else None)
    pictures = build_figures(facts, view=view)
    document = facts.document
    page = _render(
        "report.html",
        title=f"{facts.space}: {story.headline(facts, champion)}",
        facts=facts,
        pictures=pictures,
        date=time.strftime("%Y-%m-%d %H:%M", time.localtime(document.get("created"))),
        question=question(document).replace("`", ""),
        story={"headline": story.headline(facts, champion), "sentences": story.sentences(facts, champion)},
        tiles=story.tiles(facts, champion),
        rows=story.comparison(facts, champion),
        findings=[redact(f) for f in (*findings, *story.findings(facts))] or ["Nothing stands out."],
        commands=redact(story.commands(facts)),
        footer=redact(story.footer(facts)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


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
    study: RecordedStudy,
    listener: MlflowListener,
    champion: Mapping[str, Any] | None = None,
    view: ChampionView | None = None,
    findings: Sequence[str] = (),
) -> Path:
    """Write report, pictures and study.json, and have them kept with the study's run in MLflow.

    Args:
        study: The study.
        listener: Delivers to MLflow.
        champion: See ``write_report``.
        view: See ``write_report``.
        findings: See ``write_report``.

    Returns:
        The report's path.
    """
    folder = listener.directory / "artifacts"
    path = write_report(study, folder / "report.html", champion, view, findings)
    write_pictures(build_figures(study, champion["trial"] if champion else None, view), folder / "pictures")
    document = redact(json.dumps(study.document, indent=2, default=str))
    (folder / "study.json").write_text(document + "\n", encoding="utf-8")
    listener.attach(study.id, folder)
    return path


def _render(template: str, **values: object) -> str:
    import jinja2
    from markupsafe import Markup

    room = jinja2.Environment(
        loader=jinja2.PackageLoader("aiq_search.tracking"),
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
    return files("aiq_search.tracking").joinpath("templates", name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> str:
    """Plotly's JavaScript, compressed, as text."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
