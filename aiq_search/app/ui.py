"""Browsing: the MLflow user interface at a space or a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from aiq_search.errors import StudyError
from aiq_search.study import Study, list_studies
from aiq_search.study.home import aiq_home
from aiq_search.tracking.server import UiServer, page_of, serving
from aiq_search.tracking.uri import default_tracking_uri

__all__ = ["open_ui", "space_of"]


def space_of(study: str) -> str:
    """Name of the space that a study's id starts with.

    >>> space_of("lenet-5-mnist-20260102-030405-beef"), space_of("lenet-5-mnist")
    ('lenet-5-mnist', 'lenet-5-mnist')
    """
    head, *tail = study.rsplit("-", 3)
    is_id = len(tail) == 3 and tail[0].isdigit() and len(tail[0]) == 8 and tail[1].isdigit()
    return head if is_id else study


def _study_here(name: str | None) -> Study | None:
    """The study of that name whose folder is here, by default the newest."""
    if name is None:
        return next(reversed(list_studies(aiq_home())), None)
    with suppress(StudyError):
        return Study.find(aiq_home(), name)
    return None


@contextmanager
def open_ui(
    study: str | None = None,
    tracking_uri: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    show: Callable[[str], object] | None = None,
) -> Iterator[UiServer]:
    """Serve MLflow's pages while the context lasts, and show the right one.

    Args:
        study: Id of a study, or name of a space; by default the newest study here, or the start page.
        tracking_uri: Store; by default the study's, or that of ``default_tracking_uri``.
        host: Address to listen on.
        port: Port; by default 5000, or a free one if that is taken.
        show: Called with the address of the page.

    Raises:
        InputError: the store or the address cannot be used.
    """
    here = _study_here(study)
    space: str | None = None
    if here is not None:
        uri, space, study = here.tracking_uri(tracking_uri), here.space.name, study or here.id
    else:
        uri = tracking_uri or default_tracking_uri()
        space = space_of(study) if study else None
    with serving(uri, host, port) as server:
        page = page_of(server, space, study if study != space else None)
        if show:
            show(page)
        yield server
