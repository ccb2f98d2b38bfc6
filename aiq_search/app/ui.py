"""Browsing: the MLflow user interface at a space or a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiq_search.app.look import find_any
from aiq_search.study import Study, list_studies
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
        study: Id of a study, or name of a space; by default the newest study here, or the start page.
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
    with serving(uri, host, port) as server:
        page = page_of(server, space, study if study != space else None)
        if show:
            show(page, study)
        yield server
