"""Browsing: the MLflow user interface at a space or a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from aiq_search.app.look import find_any
from aiq_search.errors import AiqError
from aiq_search.study import Study, StudyView, list_studies
from aiq_search.study.home import aiq_home
from aiq_search.tracking.server import UiServer, page_of, serving
from aiq_search.tracking.uri import default_tracking_uri

__all__ = ["open_ui"]


@contextmanager
def open_ui(
    study: str | None = None,
    tracking_uri: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    show: Callable[[str, str | None], object] | None = None,
) -> Iterator[UiServer]:
    """Serve MLflow's pages while the context lasts, and show the right one.

    Args:
        study: Id of a study, whose champion's run is shown once it is confirmed, else the study's; or name of
            a space, whose table is shown; by default the newest study here, or the start page.
        tracking_uri: Store; by default the study's, or that of ``default_tracking_uri``.
        host: Address to listen on.
        port: Port; by default 5000, or a free one if that is taken.
        show: Called with the address of the page, and the study at which it opens.

    Raises:
        InputError: There is no such study, or the store or the address cannot be used.
    """
    shown = find_any(study, tracking_uri) if study or list_studies(aiq_home()) else None
    uri, space = tracking_uri or default_tracking_uri(), None
    if shown is not None:
        space, study = shown.space.name, study or shown.id
    if isinstance(shown, Study):
        uri = shown.tracking_uri(tracking_uri)
    owners = [] if shown is None or study == space else [*_champion(shown), str(study)]
    with serving(uri, host, port) as server:
        page = page_of(server, space, owners)
        if show:
            show(page, study)
        yield server


def _champion(study: StudyView) -> list[str]:
    """Key of the training that a study's champion is exported from; none before it is confirmed."""
    with suppress(AiqError):
        champion = study.champion()
        if champion.judges:
            return [str(champion.record.key)]
    return []
